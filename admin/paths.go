package admin

import (
	"path"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// The paths of the admin plane.
const (
	keysPath    = "/v1/admin/system-keys"
	auditPath   = "/v1/admin/audit-log"
	graphQLPath = "/v1/gql"
	openAPIPath = keysPath + "/openapi.json"
	sdlPath     = keysPath + "/schema.graphql"
)

// Owns reports whether a request for this decoded path is answered here. Every spelling that some upstream might read as one of ours counts:
// doubled and back slashes, dot segments, percent signs that were encoded twice,
// letters in another case, a slash at the end, parameters of a segment. What is
// ours but is not spelled exactly is answered with 404, and never handed on to
// an endpoint of the same name that checks nothing.
func (h *Handler) Owns(decoded string) bool {
	for range 4 { // deeper nesting than any chain of proxies decodes
		if h.ours(decoded) || h.ours(strings.ReplaceAll(decoded, `\`, "/")) {
			return true
		}
		again := gate.Unescape(decoded)
		if again == decoded {
			return false
		}
		decoded = again
	}
	return false
}

// ours looks at one reading of a path, with and without what some servers cut
// off the end of a segment: parameters (RFC 3986 section 3.3), blanks and NUL.
func (h *Handler) ours(p string) bool {
	segments := strings.Split(p, "/")
	for i, s := range segments {
		if end := strings.IndexAny(s, "; \x00"); end >= 0 {
			segments[i] = s[:end]
		}
	}
	for _, reading := range []string{p, strings.Join(segments, "/")} {
		cleaned := strings.ToLower(path.Clean("/" + reading))
		switch {
		case cleaned == graphQLPath, cleaned == keysPath, cleaned == auditPath, cleaned == apiPath,
			strings.HasPrefix(cleaned, keysPath+"/"), strings.HasPrefix(cleaned, auditPath+"/"),
			strings.HasPrefix(cleaned, apiPath+"/"):
			return true
		case h.page != nil && h.page.owns(cleaned):
			return true
		}
	}
	return false
}

// keyOf returns the key that a path names below the collection.
func keyOf(escaped string) (id store.ID, ok bool) {
	text, found := strings.CutPrefix(escaped, keysPath+"/")
	if !found {
		return store.ID{}, false
	}
	id, err := store.ParseID(text)
	return id, err == nil
}
