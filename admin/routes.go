package admin

import (
	_ "embed"
	"maps"
	"net/http"
	"slices"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Call answers a request, or returns an error for the answer. With an error it has written
// nothing yet, unless the error is that of [Exchange.HandOn].
type Call func(w http.ResponseWriter, r *http.Request, x *Exchange) error

// Route is what can be done under one path.
//
// Routes are made once and shared by all requests, so nobody changes them.
type Route struct {
	Calls map[string]Call
	// Only tells a client that tries another method what can be done.
	Only string
	// Form says that the body may be that of a form, and NoBody that there may be none.
	Form, NoBody bool
	// Produces are the media types of the answer. The first is for a client without a
	// preference.
	Produces []string
}

// methods are the methods of the field Allow, sorted.
func (r *Route) methods() []string { return slices.Sorted(maps.Keys(r.Calls)) }

// authenticated makes calls that first find out who calls. All calls of the REST API are made by
// it, but for its description.
func authenticated(calls map[string]Call) map[string]Call {
	checked := make(map[string]Call, len(calls))
	for method, do := range calls {
		checked[method] = func(w http.ResponseWriter, r *http.Request, x *Exchange) error {
			if err := x.Identify(r); err != nil {
				return err
			}
			return do(w, r, x)
		}
	}
	return checked
}

// openAPI describes the REST API (https://spec.openapis.org/oas/v3.1.1).
//
//go:embed openapi.json
var openAPI []byte

// MediaJSON is the media type of JSON.
const MediaJSON = "application/json"

// The routes of the REST API. The page has two of them under paths of its own.
var (
	KeysRoute = &Route{
		Calls: authenticated(map[string]Call{http.MethodGet: ListKeys, http.MethodHead: ListKeys, http.MethodPost: CreateKey, http.MethodDelete: revokeKeys}),
		Only:  "keys can be listed, created and revoked here", Produces: []string{MediaJSON},
	}
	KeyRoute = &Route{
		Calls: authenticated(map[string]Call{http.MethodGet: GetKey, http.MethodHead: GetKey, http.MethodDelete: RevokeKey}),
		Only:  "a key can be read and deleted; it is never changed", Produces: []string{MediaJSON},
	}
	auditRoute = &Route{
		Calls: authenticated(map[string]Call{http.MethodGet: listAudit, http.MethodHead: listAudit}),
		Only:  "the audit log can be read", Produces: []string{MediaJSON},
	}
	openAPIRoute = &Route{
		Calls: map[string]Call{http.MethodGet: ServeText(openAPI, MediaJSON), http.MethodHead: ServeText(openAPI, MediaJSON)},
		Only:  "the description of the API can be read",
	}
)

// keyRoutes are the routes of one key, by what stands behind its id.
var keyRoutes = map[string]*Route{"": KeyRoute, "/activity": activityRoute, "/rotate": rotateRoute}

// route finds what a path names. The path must be spelled exactly, but for the case of an id.
// Every other spelling gets 404. So no cache and no reader in front can take one path for
// another.
func (h *Handler) route(escaped string) (*Route, store.ID, bool) {
	switch escaped {
	case keysPath:
		return KeysRoute, store.ID{}, true
	case auditPath:
		return auditRoute, store.ID{}, true
	case openAPIPath:
		return openAPIRoute, store.ID{}, true
	case selfPath:
		return selfRoute, store.ID{}, true
	case selfPath + "/rotate":
		return rotateSelfRoute, store.ID{}, true
	}
	if id, below, ok := keyOf(escaped); ok {
		route, found := keyRoutes[below]
		return route, id, found
	}
	for _, surface := range h.surfaces {
		if route, id, ok := surface.Route(escaped); ok {
			return route, id, true
		}
	}
	return nil, store.ID{}, false
}

// ServeText answers with a text that is part of the program and open to all. It changes with the
// program alone, so caches may keep it for an hour.
func ServeText(text []byte, mediaType string) Call {
	return func(w http.ResponseWriter, _ *http.Request, _ *Exchange) error {
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "public, max-age=3600")
		_, _ = w.Write(text) // the client is gone if this fails
		return nil
	}
}
