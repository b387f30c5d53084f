package admin

import (
	"path"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// The paths of the admin plane. All are below the base. Clients have them in their code, so they
// do not change.
const (
	keysPath    = "/v1/admin/system-keys"
	auditPath   = "/v1/admin/audit-log"
	openAPIPath = keysPath + "/openapi.json"
	selfPath    = keysPath + "/self"
	// GraphQLPath takes documents. SchemaPath shows the schema.
	GraphQLPath = "/v1/gql"
	SchemaPath  = keysPath + "/schema.graphql"
	// DefaultPage is the path of the System page by default. APIPath is the page's own
	// API.
	DefaultPage = "/system"
	APIPath     = "/api/system-keys"
)

// Owns reports whether a request for this decoded path is answered here. It counts
// every spelling that some upstream might read as one of our paths: see [reading]. A
// path of ours that is not spelled exactly is answered with 404. It is never handed
// on, since an upstream may have an endpoint of the same name that checks nothing.
//
// An ordinary path costs a look at each byte, and allocates nothing.
func (h *Handler) Owns(decoded string) bool {
	if isPlain(decoded) {
		return h.ours(strings.TrimSuffix(decoded, "/"))
	}
	if len(decoded) > maxAmbiguous {
		return true
	}
	for range maxDecoded {
		if h.oursInAnyReading(decoded) {
			return true
		}
		again := token.Unescape(decoded)
		if again == decoded {
			return false
		}
		decoded = again
	}
	return h.oursInAnyReading(unescapeAll(decoded))
}

// maxDecoded is how often a path is decoded, with a look at each result. No chain of
// proxies is as long. A path that is encoded more often is decoded to its end at once.
const maxDecoded = 8

// maxAmbiguous bounds the length of a path that is read in every way, in bytes. It
// bounds the cost of a hostile path. A longer path that is not plain is refused with
// 404.
const maxAmbiguous = 4 << 10

// isPlain reports whether a path has only one reading: no byte of it is encoded, no
// reader cuts off, drops or folds one, and only a slash at its end can be cleaned away.
func isPlain(p string) bool {
	if p == "" || p[0] != '/' {
		return false
	}
	for i := range len(p) {
		switch c := p[i]; {
		case c >= 0x7F, c <= ' ', c == '%', c == '\\', c == ';', c == '?', c == '#':
			return false
		case c == '/' && i+1 < len(p) && (p[i+1] == '/' || p[i+1] == '.'):
			return false
		}
	}
	return true
}

// oursInAnyReading looks at what servers read in a path that they do not decode again.
func (h *Handler) oursInAnyReading(p string) bool {
	for _, end := range []ending{endNowhere, endSegment, endPath, endDropped} {
		for _, backslash := range []byte{'\\', '/'} {
			if h.ours(path.Clean("/" + reading(p, end, backslash))) {
				return true
			}
		}
	}
	return false
}

// ours reports whether a cleaned path is one of ours, in ASCII letters of any case. All that is
// below one of ours counts, whether or not it names something. GraphQL has nothing below its
// path.
func (h *Handler) ours(cleaned string) bool {
	if !IsBelow(cleaned, h.config.Base) {
		return false
	}
	cleaned = cleaned[len(h.config.Base):]
	return IsBelow(cleaned, keysPath) || IsBelow(cleaned, auditPath) || IsBelow(cleaned, APIPath) ||
		len(cleaned) == len(GraphQLPath) && IsBelow(cleaned, GraphQLPath) || h.config.Page != "" && IsBelow(cleaned, h.config.Page)
}

// IsBelow reports whether a path is the other one, or below it. Every path is below the empty
// one.
func IsBelow(p, of string) bool {
	return len(p) >= len(of) && strings.EqualFold(p[:len(of)], of) && (len(p) == len(of) || p[len(of)] == '/')
}

// keyOf returns the id of the key that a path below the collection names, and what stands behind
// the id. Below is empty or begins with a slash.
func keyOf(escaped string) (id store.ID, below string, ok bool) {
	text, found := strings.CutPrefix(escaped, keysPath+"/")
	if end := strings.IndexByte(text, '/'); end >= 0 {
		text, below = text[:end], text[end:]
	}
	id, err := store.ParseKeyID(text)
	return id, below, found && err == nil
}
