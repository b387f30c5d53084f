package admin

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// shouting is a store that panics with a secret.
type shouting struct{ store.Store }

func (shouting) Keys(context.Context, *store.KeyQuery) (*store.KeyPage, error) {
	panic("lm_sys_secret")
}

type anybody struct{}

func (anybody) Verify(context.Context, string) (*verify.Identity, error) {
	return &verify.Identity{IsSystem: true}, nil
}

func TestAPanicTellsNobodyWhy(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h := NewHandler(Config{
		Service:    func(context.Context) (*Service, error) { return &Service{Store: shouting{}}, nil },
		Identities: Identities{Verifier: anybody{}},
		Describe:   func(*http.Request) store.AuditRequest { return store.AuditRequest{ID: "r1"} },
		Denied:     func(store.AuditRecord) {},
		Logger:     slog.New(slog.NewTextHandler(&log, nil)),
	})
	r := httptest.NewRequest(http.MethodPost, "/v1/gql", strings.NewReader(`{"query":"{ adminSystemKeys { total } }"}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer lm_sys_x")
	w := httptest.NewRecorder()
	if err := h.Serve(w, r, nil); err != nil {
		t.Fatal(err)
	}
	answer := w.Body.String()
	if !strings.Contains(answer, `"code":"internal"`) || !strings.Contains(log.String(), "panicked") {
		t.Errorf("got %s, and logged %s", answer, log.String())
	}
	if strings.Contains(answer+log.String(), "lm_sys_") {
		t.Errorf("the panic's value is told: %s %s", answer, log.String())
	}
}
