package caddymodule

import (
	"context"
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/internal/assertion"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
)

// publicKeys serves the keys by which assertions are verified.
type publicKeys struct {
	app     *App
	refuser *refuser
}

// asked reports whether the request is for the keys: as its client sent it, or as
// it was rewritten since.
func (*publicKeys) asked(r *http.Request) bool {
	if r.URL.Path == assertion.Path {
		return true
	}
	_, sent := original(r)
	return sent.Path == assertion.Path
}

// original is the request line as the client sent it.
func original(r *http.Request) (method string, target *url.URL) {
	if o, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && o.URL != nil {
		return o.Method, o.URL
	}
	return r.Method, r.URL
}

func (p *publicKeys) serve(w http.ResponseWriter, r *http.Request) error {
	if method, _ := original(r); method != http.MethodGet && method != http.MethodHead {
		return p.refuser.refuse(w, r, &gate.Refusal{
			Status: http.StatusMethodNotAllowed, Code: "method_not_allowed",
			Message: "the public keys can be read only", Header: http.Header{"Allow": {"GET, HEAD"}},
		})
	}
	set, err := p.current(r.Context())
	if err != nil {
		return p.refuser.refuse(w, r, &gate.Refusal{
			Status: http.StatusServiceUnavailable, Code: "unavailable",
			Message: "the public keys cannot be read at the moment", Header: http.Header{"Retry-After": {"1"}}, Err: err,
		})
	}
	set.ServeHTTP(w, r)
	return nil
}

func (p *publicKeys) current(ctx context.Context) (*assertion.KeySet, error) {
	live, err := p.app.live(ctx)
	if err != nil {
		return nil, err
	}
	return live.Published.Current(ctx)
}
