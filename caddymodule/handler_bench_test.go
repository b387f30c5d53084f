package caddymodule

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/adminplane"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/signing"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
)

// benchmarked is a server with one key.
func benchmarked(b testing.TB) (running *app.App, live *engine.Live, key string) {
	b.Helper()
	config := fmt.Sprintf(`{"admin": {"disabled": true}, "logging": {"logs": {"default": {"level": "ERROR"}}},
		"apps": {"system_keys": {"store": {"driver": "sqlite", "file": %q}}}}`, filepath.Join(b.TempDir(), "keys.db"))
	if err := caddy.Load([]byte(config), true); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = caddy.Stop() })
	running = app.Active()
	var err error
	if live, err = running.Live(b.Context()); err != nil {
		b.Fatal(err)
	}
	if _, key, err = adminplane.Service(live).Create(b.Context(), admin.CLI(), admin.NewKey{Label: "bench", Permissions: []string{"bots:read"}}); err != nil {
		b.Fatal(err)
	}
	return running, live, key
}

// BenchmarkAdmit is the check of a key that is remembered, as a server makes it: with
// the lease of its follower, its clock, its metrics and its last uses; and the same
// for a request that can be cut, in and out.
func BenchmarkAdmit(b *testing.B) {
	_, live, key := benchmarked(b)
	request := new(coherence.Request)
	for name, admit := range map[string]func() error{
		"check": func() error {
			_, _, err := live.Verifier.Admit(b.Context(), key, "", nil)
			return err
		},
		"registered": func() error {
			*request = coherence.Request{}
			_, _, err := live.Verifier.Admit(b.Context(), key, "", request)
			request.Leave()
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			if err := admit(); err != nil { // remembered from now on
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := admit(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHandler is everything that a request with a warm key pays here,
// without the proxy behind it. What it costs to make the request is in "bare".
func BenchmarkHandler(b *testing.B) {
	running, _, key := benchmarked(b)
	var err error
	handler := &Handler{app: running}
	if handler.gate, err = handler.newGate(); err != nil {
		b.Fatal(err)
	}
	signed := &Handler{app: running, Assertion: &signing.Assertion{Audience: "bench"}}
	shared := &Handler{app: running, Assertion: &signing.Assertion{Audience: "bench", Secret: []string{"0123456789abcdef0123456789abcdef"}}}
	for _, h := range []*Handler{signed, shared} {
		if h.gate, err = h.newGate(); err != nil {
			b.Fatal(err)
		}
		if err := h.signer.Start(caddy.NewReplacer(), make(app.Signers)); err != nil {
			b.Fatal(err)
		}
	}
	server := new(caddyhttp.Server) // without access logs
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	for name, serve := range map[string]func(http.ResponseWriter, *http.Request) error{
		"bare": next.ServeHTTP,
		"with system_key_auth": func(w http.ResponseWriter, r *http.Request) error {
			return handler.ServeHTTP(w, r, next)
		},
		"with assertion": func(w http.ResponseWriter, r *http.Request) error {
			return signed.ServeHTTP(w, r, next)
		},
		"with assertion, shared secret": func(w http.ResponseWriter, r *http.Request) error {
			return shared.ServeHTTP(w, r, next)
		},
	} {
		b.Run(name, func(b *testing.B) {
			authorization := []string{"Bearer " + key}
			bare := httptest.NewRequest(http.MethodGet, "http://localhost/hello?a=b", http.NoBody)
			w := httptest.NewRecorder()
			once := func() {
				r := caddyhttp.PrepareRequest(bare, caddy.NewReplacer(), w, server)
				r.Header = http.Header{
					"Authorization": authorization, "Accept": {"*/*"}, "User-Agent": {"bench"}, "X-Forwarded-For": {"::1"},
				}
				if err := serve(w, r); err != nil {
					b.Fatal(err)
				}
			}
			once() // the first waits for Argon2id, or for a signing key to be published
			b.ReportAllocs()
			for b.Loop() {
				once()
			}
		})
	}
}
