// Package header owns a header prefix on behalf of an upstream. What a client sends under
// the prefix never arrives, and what is injected under it always does.
//
// An upstream that trusts X-Lumio-Key-Id trusts everything between itself and the client to
// have written that field. So a handler calls [Owner.Strip] on every request before it looks
// at any credential, also on requests that it lets through without one. It calls
// [Owner.Inject] on requests that it has authenticated.
//
// # Ways in, and ways to remove
//
// A client can send a field of its own as a header, in any spelling that some server behind
// the proxy takes for the real one. It can send the field as a trailer, announced or not. It
// can also have an injected field removed: Caddy's reverse_proxy, like any proxy that
// follows RFC 9110 section 7.6.1, deletes the fields that the client names in Connection,
// after all handlers have run. Strip closes all of these ways. Proxy-Connection needs no
// care: Caddy removes it and, like RFC 9110 appendix C.2.2, gives its tokens no meaning.
//
// # Upgrades
//
// Once a connection has changed its protocol, nobody looks at its requests any more. An
// upstream that accepts Upgrade: h2c would take HTTP/2 requests with any identity from the
// client. [CheckUpgrade] lets WebSocket through. It takes every other wish for an upgrade
// out of the request, and refuses CONNECT for anything else.
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
	required    = "Required" // in an answer
)

// Owner owns one header prefix. It is made once from the configuration. It is immutable and
// safe for concurrent use.
type Owner struct {
	prefix string // folded
	// names are the canonical field names for the texts in [Values], in the same order.
	names     [fields]string
	assertion string
	required  string
}

// New returns the owner of all field names that begin with prefix, such as "X-Lumio-". A
// prefix consists of letters, digits and hyphens. It ends with a hyphen and has two parts or
// more, so that it belongs to one application: "X-" and "Content-" would take in everybody's
// fields. A prefix that would take in a field of common use, such as "X-Forwarded-" or
// "Sec-WebSocket-", is refused too. The error wraps [ErrPrefix].
func New(prefix string) (*Owner, error) {
	if err := checkPrefix(prefix); err != nil {
		return nil, err
	}
	name := func(suffix string) string { return http.CanonicalHeaderKey(prefix + suffix) }
	return &Owner{
		prefix:    fold(prefix),
		names:     [fields]string{name(authType), name(keyID), name(keyLabel), name(permissions)},
		assertion: name(assertion),
		required:  name(required),
	}, nil
}

// Owns reports whether some server could take name for a name under the prefix. Letters are
// compared without case, and every byte that is not a letter or a digit counts as a hyphen.
func (o *Owner) Owns(name string) bool { return hasFoldedPrefix(name, o.prefix) }

// Strip removes what the client has sent under the prefix: header fields in every spelling,
// their names in Connection and in the announcement of trailers, and trailers. It removes
// Authorization from Connection and from the trailers too, but not the header field itself.
// Other fields and tokens stay as they are.
//
// A trailer that was not announced appears when the end of the body is read. So r.Body is
// replaced on requests that can have trailers. Therefore r must be a copy of the server's
// request, as Caddy's handlers get it, and not the server's own: net/http looks at the type
// of the Body of its own request.
//
// Look is called with each other header field, unless it is nil. So a caller that must see
// all of them need not walk through the header once more.
//
// Strip allocates nothing for a request that has nothing to remove.
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
	// The server moves the announcement into r.Trailer. It does not on an HTTP/1 request
	// without chunks, which cannot have trailers.
	dropTokens(r.Header, "Trailer", o.protects)
	o.stripTrailer(r)
}

// Remove removes every field under the prefix, no matter who has set it.
func (o *Owner) Remove(h http.Header) {
	for name := range h {
		if o.Owns(name) {
			delete(h, name)
		}
	}
}

// TakeRequired removes the field of an answer by which an upstream says which permissions it
// has asked of the key, and returns its lines. They have the permissions between commas.
func (o *Owner) TakeRequired(answer http.Header) []string {
	lines, found := answer[o.required]
	if found {
		delete(answer, o.required)
	}
	return lines
}

// protects reports whether the client must not remove a field with this name, nor send a
// trailer with it.
func (o *Owner) protects(name string) bool {
	return o.Owns(name) || strings.EqualFold(name, "Authorization")
}
