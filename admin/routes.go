package admin

import (
	"maps"
	"net/http"
	"slices"

	"github.com/lumio-vision/caddy-system-keys/store"
)

type call func(w http.ResponseWriter, r *http.Request, x *exchange) error

// route is what can be done under one path.
type route struct {
	calls map[string]call
	// only says what can be done, to who tries something else.
	only string
	// form says that the body may be that of a form.
	form bool
	// page is whose errors are pages, for what a browser asks for. Nil: errors are
	// JSON.
	page *page
	// produces are the media types of the answer, the one for who has no
	// preference first.
	produces []string
}

func (r *route) methods() []string { return slices.Sorted(maps.Keys(r.calls)) }

// authenticated are the calls for which it is found out who makes them.
func authenticated(calls map[string]call) map[string]call {
	checked := make(map[string]call, len(calls))
	for method, do := range calls {
		checked[method] = func(w http.ResponseWriter, r *http.Request, x *exchange) error {
			if err := x.identify(r); err != nil {
				return err
			}
			return do(w, r, x)
		}
	}
	return checked
}

const mediaJSON = "application/json"

var (
	keysRoute = &route{
		calls: authenticated(map[string]call{http.MethodGet: list, http.MethodHead: list, http.MethodPost: create}),
		only:  "keys can be listed and created here", produces: []string{mediaJSON},
	}
	keyRoute = &route{
		calls: authenticated(map[string]call{http.MethodGet: get, http.MethodHead: get, http.MethodDelete: revoke}),
		only:  "a key can be read and deleted; it is never changed", produces: []string{mediaJSON},
	}
	auditRoute = &route{
		calls: authenticated(map[string]call{http.MethodGet: listAudit, http.MethodHead: listAudit}),
		only:  "the audit log can be read", produces: []string{mediaJSON},
	}
	openAPIRoute = &route{
		calls: map[string]call{http.MethodGet: serve(openAPI, mediaJSON), http.MethodHead: serve(openAPI, mediaJSON)},
		only:  "the description of the API can be read",
	}
	sdlRoute = &route{
		calls: map[string]call{http.MethodGet: serve(sdl, mediaSDL), http.MethodHead: serve(sdl, mediaSDL)},
		only:  "the GraphQL schema can be read",
	}
)

// route finds what a path names. The path must be spelled exactly.
func (h *Handler) route(escaped string) (*route, store.ID, bool) {
	switch escaped {
	case keysPath:
		return keysRoute, store.ID{}, true
	case auditPath:
		return auditRoute, store.ID{}, true
	case openAPIPath:
		return openAPIRoute, store.ID{}, true
	case sdlPath:
		return sdlRoute, store.ID{}, true
	case graphQLPath:
		return h.graphQL.route, store.ID{}, true
	}
	if id, ok := keyOf(escaped); ok {
		return keyRoute, id, true
	}
	if h.page == nil {
		return nil, store.ID{}, false
	}
	return h.page.route(escaped)
}

// serve answers with a text that is part of the program and open to all.
func serve(text []byte, mediaType string) call {
	return func(w http.ResponseWriter, _ *http.Request, _ *exchange) error {
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "public, max-age=3600")
		_, _ = w.Write(text) // the client is gone if this fails
		return nil
	}
}
