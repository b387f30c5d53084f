package signing

import (
	"context"
	"net/http"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/answer"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/request"
	"github.com/lumio-vision/caddy-system-keys/internal/assertion"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
)

// ServePublicKeys answers a request for the public keys, and reports whether it was one: as its
// client has sent it, or after a rewrite. It answers itself, and leaves nothing to error routes:
// the request still has everything that the client has sent, and an error route may be a proxy.
func ServePublicKeys(w http.ResponseWriter, r *http.Request, a *app.App, refuser *answer.Refuser) bool {
	method, sent := request.Original(r)
	if r.URL.Path != assertion.Path && sent.Path != assertion.Path {
		return false
	}
	if method != http.MethodGet && method != http.MethodHead {
		refuser.Answer(w, r, &gate.Refusal{
			Status: http.StatusMethodNotAllowed, Code: "method_not_allowed",
			Message: "the public keys can be read only", Header: http.Header{"Allow": {"GET, HEAD"}},
		})
		return true
	}
	set, err := publicKeys(r.Context(), a)
	if err != nil {
		refuser.Answer(w, r, &gate.Refusal{
			Status: http.StatusServiceUnavailable, Code: "unavailable",
			Message: "the public keys cannot be read at the moment", Header: http.Header{"Retry-After": {"1"}}, Err: err,
		})
		return true
	}
	set.ServeHTTP(w, r)
	return true
}

// publicKeys returns the public keys of all instances, which verify assertions.
func publicKeys(ctx context.Context, a *app.App) (*assertion.KeySet, error) {
	live, err := a.Live(ctx)
	if err != nil {
		return nil, err
	}
	return live.Published.Current(ctx)
}
