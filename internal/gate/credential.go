package gate

import (
	"net/http"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

const scheme = "bearer"

// Credential finds the system key of a request. The key is empty if the request
// carries none, nor anything that looks like one. What does look like one and
// is not a well-formed bearer token is refused, so that it is never passed on.
//
// RFC 9110 section 11.6.2 makes Authorization a field with a single value; two
// of them are read differently by every hop, so nobody may guess. RFC 6750
// section 2.3 allows a token in the query, and section 5.3 says why not to: URLs
// are logged. A key that was sent there, or in another field, must not be served, or
// nobody would notice that it leaks.
func Credential(r *http.Request) (key string, refusal *Refusal) {
	return credential(r, misplaced(r))
}

func credential(r *http.Request, misplaced string) (key string, refusal *Refusal) {
	fields := r.Header["Authorization"]
	if len(fields) > 1 {
		return "", refuseAmbiguous
	}
	if misplaced != "" {
		return "", refuseMisplaced(misplaced)
	}
	if len(fields) == 0 {
		return "", nil
	}
	value := fields[0]
	if len(value) > len(scheme) && strings.EqualFold(value[:len(scheme)], scheme) && value[len(scheme)] == ' ' {
		if rest := strings.TrimLeft(value[len(scheme):], " "); strings.HasPrefix(rest, token.Prefix) {
			return rest, nil
		}
	}
	if token.Mentions(value) {
		return "", Invalid(DeniedMalformed)
	}
	return "", nil
}

// tokenInQuery reports whether a parameter "token" has anything that begins like a
// key. It reads the query as the most liberal upstream might: both separators, and
// what cannot be decoded taken as it stands.
func tokenInQuery(query string) bool {
	for pair := range strings.FieldsFuncSeq(query, func(c rune) bool { return c == '&' || c == ';' }) {
		name, value, _ := strings.Cut(pair, "=")
		if strings.EqualFold(Unescape(name), "token") && strings.Contains(strings.ToLower(Unescape(value)), token.Prefix) {
			return true
		}
	}
	return false
}
