package caddymodule

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestTheUserIsWhoWasLetThrough, also where another handler has named somebody
// before, whose word would otherwise be in the access log.
func TestTheUserIsWhoWasLetThrough(t *testing.T) {
	t.Parallel()
	identity := verify.IdentityOf(&store.Key{Label: "bot", Permissions: []string{"b:read", "a:read"}})
	want := map[string]any{
		"http.auth.user.id": identity.ID.String(), "http.auth.user.label": "bot",
		"http.auth.user.permissions": "a:read,b:read", "http.auth.user.type": "system_key",
	}
	for name, before := range map[string]map[string]any{
		"nobody before":   nil,
		"another user":    {"http.auth.user.id": "alice", "http.auth.user.label": "hers", "http.auth.user.type": "basic"},
		"a user of no id": {"http.auth.user.id": ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repl := caddy.NewReplacer()
			for key, value := range before {
				repl.Set(key, value)
			}
			w := httptest.NewRecorder()
			r := caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodGet, "/", http.NoBody), repl, w, new(caddyhttp.Server))
			announce(r, identity)
			for key, value := range want {
				if got, ok := repl.Get(key); !ok || got != value {
					t.Errorf("{%s} is %v, want %v", key, got, value)
				}
			}
			if got, ok := repl.Get("http.auth.user.nickname"); ok {
				t.Errorf("there is a nickname %v", got)
			}
			if announced(r) != identity || callerOf(r).inFlight() != nil {
				t.Error("a second handler does not know who it is")
			}
		})
	}
}

// TestTheUserOfARequestThatFailedIsForTheAccessLogAlone has the request leave its
// flight, with an answer and by an error.
func TestTheUserOfARequestThatFailedIsForTheAccessLogAlone(t *testing.T) {
	t.Parallel()
	identity := verify.IdentityOf(&store.Key{Label: "bot", Permissions: []string{"a:read"}})
	names := []string{userID, userLabel, userPermissions, userType}
	for name, before := range map[string]map[string]any{
		"nobody before": nil,
		"another user":  {userID: "alice", userLabel: "hers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, answered := range []bool{true, false} {
				repl := caddy.NewReplacer()
				for key, value := range before {
					repl.Set(key, value)
				}
				w := httptest.NewRecorder()
				r := caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodGet, "/", http.NoBody), repl, w, new(caddyhttp.Server))
				c := &caller{Decision: gate.Decision{Identity: identity, Key: "lm_sys_x"}, stage: flying}
				c.announce(r)
				if callerOf(r).inFlight() != identity {
					t.Error("in its flight the request is not known")
				}
				c.end(answered)
				if callerOf(r).inFlight() != nil || announced(r) != nil {
					t.Error("the request is taken for one in flight after its end")
				}
				for _, name := range names {
					if value, known := repl.Get(name); known != answered {
						t.Errorf("answered %v: {%s} is %v", answered, name, value)
					}
				}
				repl.Set("http.response.duration", 1) // by logRequest
				if value, _ := repl.Get(userID); value != identity.ID.String() {
					t.Errorf("answered %v: the access log has %v", answered, value)
				}
			}
		})
	}
}
