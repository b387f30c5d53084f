package header

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrPrefix reports a prefix that cannot be owned. The error that wraps it says why.
var ErrPrefix = errors.New("header prefix cannot be owned")

// checkPrefix refuses a text that is no prefix of field names with a hyphen at its end. It
// also refuses a prefix that takes in names which one application must not own.
func checkPrefix(prefix string) error {
	if prefix == "" {
		return fmt.Errorf("%w: it is empty", ErrPrefix)
	}
	for i := range len(prefix) {
		// Caddy itself drops field names with another separator from requests. But
		// the fields that we inject would have it.
		if c := prefix[i]; folded[c] == '-' && c != '-' {
			return fmt.Errorf("%w: %q has %q in it, only letters, digits and hyphens can be", ErrPrefix, prefix, c)
		}
	}
	parts := strings.Split(prefix, "-")
	if parts[len(parts)-1] != "" {
		return fmt.Errorf("%w: %q does not end with a hyphen", ErrPrefix, prefix)
	}
	parts = parts[:len(parts)-1]
	if slices.Contains(parts, "") {
		return fmt.Errorf("%w: %q has an empty part", ErrPrefix, prefix)
	}
	if len(parts) < 2 {
		return fmt.Errorf("%w: %q has one part, at least two are needed, as in X-Lumio-", ErrPrefix, prefix)
	}
	for _, name := range commonFields {
		if hasFoldedPrefix(name, fold(prefix)) {
			return fmt.Errorf("%w: %q takes in %s, which others need", ErrPrefix, prefix, name)
		}
	}
	return nil
}

// commonFields lists request fields that have a meaning to clients, Caddy or upstreams, and
// that a prefix of two parts or more could take in. Most are in the field name registry of
// RFC 9110 section 18.4. The rest is in wide use.
var commonFields = []string{
	"Access-Control-Request-Headers",
	"Access-Control-Request-Method",
	"Access-Control-Request-Private-Network",
	"If-Modified-Since",
	"If-None-Match",
	"If-Unmodified-Since",
	"Last-Event-ID",
	"Sec-CH-UA",
	"Sec-CH-UA-Mobile",
	"Sec-Fetch-Site",
	"Sec-WebSocket-Key",
	"Upgrade-Insecure-Requests",
	"X-Accel-Redirect",
	"X-B3-TraceId",
	"X-CSRF-Token",
	"X-Forwarded-For",
	"X-HTTP-Method-Override",
	"X-Real-IP",
	"X-Request-ID",
	"X-Requested-With",
}

// folded maps each byte of a field name to the byte that it is compared as. Letters are
// compared without case. A byte that is neither a letter nor a digit counts as a hyphen. CGI
// (RFC 3875 section 4.1.18), WSGI, Rack and FastCGI hand a field on as HTTP_X_LUMIO_KEY_ID.
// PHP makes an underscore of a dot too, and some servers make one of every other byte. An
// upstream behind them cannot tell these spellings apart, so all of them are the owned name.
var folded = func() (table [256]byte) {
	for i := range table {
		switch c := byte(i); {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			table[i] = c
		case c >= 'A' && c <= 'Z':
			table[i] = c + 'a' - 'A'
		default:
			table[i] = '-'
		}
	}
	return table
}()

// fold returns the form that all spellings of name have in common.
func fold(name string) string {
	b := make([]byte, len(name))
	for i := range len(name) {
		b[i] = folded[name[i]]
	}
	return string(b)
}

// hasFoldedPrefix reports whether fold(name) begins with prefix, which must be folded. It
// does not allocate.
func hasFoldedPrefix(name, prefix string) bool {
	if len(name) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if folded[name[i]] != prefix[i] {
			return false
		}
	}
	return true
}
