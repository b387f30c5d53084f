package request_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/request"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestTheAccessLogHasTheIDOfARefusedRequest also where error routes answer, which need not ask
// for it.
func TestTheAccessLogHasTheIDOfARefusedRequest(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	r := caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodGet, "/", http.NoBody), caddy.NewReplacer(), w, new(caddyhttp.Server))
	request.LogRefusal(r, gate.DeniedRevoked, store.ID{1})
	if caddyhttp.GetVar(r.Context(), "uuid") == nil { // Caddy logs it from then on
		t.Error("nobody has asked Caddy for it")
	}
}
