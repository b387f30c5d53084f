package header

import (
	"net/http"
	"strings"
)

// The names under the prefix that an upstream receives.
const (
	authType    = "Auth-Type"
	keyID       = "Key-Id"
	keyLabel    = "Key-Label"
	permissions = "Permissions"
	assertion   = "Assertion"
)

// Owner owns one header prefix. It is made once from the configuration, does
// not change, and is safe for concurrent use.
type Owner struct {
	// prefix is folded.
	prefix string
	// names are the canonical names of what [Values] holds, in its order.
	names     [fields]string
	assertion string
}

// New returns the owner of all field names that begin with prefix, such as
// "X-Lumio-". A prefix consists of letters, digits and hyphens, ends with a
// hyphen, and has two parts or more before it, so that it belongs to one
// application: "X-" and "Content-" would take in everybody's fields. Those
// that would take in fields of common use, such as "X-Forwarded-" and
// "Sec-WebSocket-", are refused as well. The error wraps [ErrPrefix].
func New(prefix string) (*Owner, error) {
	if err := checkPrefix(prefix); err != nil {
		return nil, err
	}
	name := func(suffix string) string { return http.CanonicalHeaderKey(prefix + suffix) }
	return &Owner{
		prefix:    fold(prefix),
		names:     [fields]string{name(authType), name(keyID), name(keyLabel), name(permissions)},
		assertion: name(assertion),
	}, nil
}

// Owns reports whether some server could take name for one under the prefix:
// whether it begins with the prefix when letters are compared without case and
// every byte that is not a letter or a digit counts as a hyphen.
func (o *Owner) Owns(name string) bool { return hasFoldedPrefix(name, o.prefix) }

// Strip removes what the client sent under the prefix: header fields in every
// spelling, their names in Connection and in the announcement of trailers, and
// trailers. Authorization is removed from Connection and from the trailers
// too, its header field is left alone. Other fields and tokens stay as they
// are.
//
// Trailers that were not announced appear when the end of the body is read, so
// r.Body is replaced on requests that can have some. r must therefore be a
// copy of the request that the server made, as Caddy's handlers get it, and
// not the server's own: net/http looks at the type of that one's Body.
//
// Look, unless it is nil, is called with each other header field, so that whoever has
// to see all of them need not walk through the header once more.
//
// Strip allocates nothing for a request that has none of this.
func (o *Owner) Strip(r *http.Request, look func(name string, values []string)) {
	for name, values := range r.Header {
		switch {
		case o.Owns(name):
			delete(r.Header, name)
		case look != nil:
			look(name, values)
		}
	}
	dropTokens(r.Header, "Connection", o.protects)
	// The server moves the announcement into r.Trailer, except on a request of
	// HTTP/1 without chunks, which cannot have trailers.
	dropTokens(r.Header, "Trailer", o.protects)
	o.stripTrailer(r)
}

// Remove removes every field under the prefix, whoever has set it.
func (o *Owner) Remove(h http.Header) {
	for name := range h {
		if o.Owns(name) {
			delete(h, name)
		}
	}
}

// protects reports whether name must not be removed by the client, nor be sent
// as a trailer.
func (o *Owner) protects(name string) bool {
	return o.Owns(name) || strings.EqualFold(name, "Authorization")
}
