package gate

import (
	"net/http"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

const scheme = "bearer"

// Credential finds the system key of a request. The key is empty if the request carries
// none. Text that looks like a key but is not a well-formed bearer token is refused, so
// that nobody passes it on.
//
// RFC 9110 section 11.6.2 allows one value in Authorization. Every hop reads two values
// differently, so nobody may guess. RFC 6750 section 2.3 allows a token in the query, but
// section 5.3 says why not to: URLs are logged. A key in the query, or in another field, is
// not served. Otherwise nobody would notice that it leaks.
func Credential(r *http.Request) (key string, refusal *Refusal) {
	return credential(r, misplaced(r))
}

// credential is [Credential] for a request whose misplaced key was looked for before.
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

// misplaced returns the place of a system key that stands where none belongs, or nothing.
// The upstream would get such a key, and write it to its logs, as would every hop between.
// The client would never notice.
//
// The places are the query, every header field but Authorization, the names of header
// fields, the Host, the cookies, and credentials of the Basic scheme in any field. The path
// is not one: it names a resource, and logs and audit records redact it. The body is not
// read.
func misplaced(r *http.Request) string {
	if place := outsideHeader(r); place != "" {
		return place
	}
	for name, values := range r.Header {
		if fieldHolds(name, values) {
			return placeOf(name)
		}
	}
	return ""
}

// outsideHeader looks for a misplaced key in the query and the Host.
func outsideHeader(r *http.Request) string {
	if r.URL != nil && token.Mentions(r.URL.RawQuery) && (token.Holds(r.URL.RawQuery) || tokenInQuery(r.URL.RawQuery)) {
		return "the query"
	}
	if token.Holds(r.Host) {
		return "the header field Host"
	}
	return ""
}

// tokenInQuery reports whether a parameter "token" has text that begins like a key. It
// reads the query as the most liberal upstream might: it splits at both separators, and
// takes an invalid escape as it stands.
func tokenInQuery(query string) bool {
	for pair := range strings.FieldsFuncSeq(query, func(c rune) bool { return c == '&' || c == ';' }) {
		name, value, _ := strings.Cut(pair, "=")
		if strings.EqualFold(token.Unescape(name), "token") && strings.Contains(strings.ToLower(token.Unescape(value)), token.Prefix) {
			return true
		}
	}
	return false
}

// fieldHolds reports whether a header field holds a misplaced key.
func fieldHolds(name string, values []string) bool {
	for _, value := range values {
		if len(value) >= token.LeastHeld && valueHolds(name, value) {
			return true
		}
	}
	return token.Holds(name)
}

func valueHolds(name, value string) bool {
	return token.BasicHolds(value) || name != "Authorization" && token.Holds(value)
}

// placeOf describes a field that holds a key.
func placeOf(name string) string {
	switch {
	case name == "Authorization":
		return "the Basic credentials in the header field Authorization"
	case name == "Cookie":
		return "a cookie"
	case token.Mentions(name):
		return "the name of a header field"
	}
	return "the header field " + name
}

// hideMisplaced removes misplaced keys from a refused request, since an error route may be
// another proxy.
func hideMisplaced(r *http.Request) {
	for name, values := range r.Header {
		if fieldHolds(name, values) {
			delete(r.Header, name)
		}
	}
	if r.URL != nil {
		r.URL.RawQuery = token.Redact(r.URL.RawQuery)
	}
	if token.Holds(r.Host) {
		r.Host = ""
	}
}
