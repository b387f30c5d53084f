package caddymodule

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/internal/cut"
)

// overHTTP1 is a writer like that of net/http for HTTP/1.
type overHTTP1 struct{ *httptest.ResponseRecorder }

func (overHTTP1) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, http.ErrNotSupported }

// TestWhatAWarmRequestAllocates holds what the handler adds to a request whose key is
// remembered.
func TestWhatAWarmRequestAllocates(t *testing.T) {
	running, _, key := benchmarked(t)
	handler := &Handler{app: running}
	var err error
	if handler.gate, err = handler.newGate(); err != nil {
		t.Fatal(err)
	}
	var connections cut.Connections
	server := new(caddyhttp.Server) // without access logs
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	for name, test := range map[string]struct {
		overHTTP1 bool
		want      float64
	}{
		// The passage, and the function of its placeholders.
		"HTTP/1": {true, 2},
		// A context, what cancels it, and a copy of the request.
		"HTTP/2 and 3": {false, 2 + 3},
	} {
		t.Run(name, func(t *testing.T) {
			w := http.ResponseWriter(httptest.NewRecorder())
			bare := httptest.NewRequest(http.MethodGet, "http://localhost/hello?a=b", http.NoBody)
			if test.overHTTP1 {
				w = overHTTP1{httptest.NewRecorder()}
				bare = bare.WithContext(connections.Context(bare.Context(), nil))
			}
			authorization := []string{"Bearer " + key}
			allocs := func(serve func(http.ResponseWriter, *http.Request) error) float64 {
				return testing.AllocsPerRun(100, func() {
					r := caddyhttp.PrepareRequest(bare, caddy.NewReplacer(), w, server)
					r.Header = http.Header{"Authorization": authorization, "Accept": {"*/*"}, "User-Agent": {"bench"}}
					if err := serve(w, r); err != nil {
						t.Fatal(err)
					}
				})
			}
			through := func(w http.ResponseWriter, r *http.Request) error { return handler.ServeHTTP(w, r, next) }
			allocs(through) // the first waits for Argon2id
			if got := allocs(through) - allocs(next); got != test.want {
				t.Errorf("%v allocations, want %v", got, test.want)
			}
		})
	}
}
