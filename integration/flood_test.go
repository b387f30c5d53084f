package integration_test

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// floodOf is a flood, and what it may cost in rows and Argon2id computations.
type floodOf struct {
	name, path   string
	status       int
	credential   func(n int) string
	rows, argon2 uint64
}

// TestFlood has bad credentials of each kind come over many connections while a
// client with a good key works. It looks at what must hold however fast the
// machine is: what everybody is answered, what it costs, and what is left of it.
// `go run ./bench flood` measures the rest.
func TestFlood(t *testing.T) {
	connections, each, reads := 16, 40, uint64(100)
	if soak() {
		connections, each, reads = 64, 20_000, 1000
	}
	p := newPlane(t, onSQLite(t), "")
	stranger := plane.NewIssuer(t)
	gone, revoked := mint(t, p.Keys, "gone")
	if _, err := p.Keys.Revoke(t.Context(), admin.CLI(), gone.ID); err != nil {
		t.Fatal(err)
	}
	_, good := mint(t, p.Keys, "bot")
	client := &flooder{url: p.URL}
	if status := client.send(t, "/", good); status != http.StatusOK {
		t.Fatalf("a good key got %d", status)
	}
	wrong := make([]string, 32)
	for i := range wrong {
		wrong[i] = "lm_" + stranger.Token(map[string]any{"sub": fmt.Sprint(i), "is_system": true})
	}
	for _, flood := range []floodOf{
		// Where no key is needed it would pass, without an identity.
		{"garbage", "/privileged", http.StatusUnauthorized, func(n int) string { return fmt.Sprintf("%083d", n) }, 0, 0},
		{"garbage that names a key", "/", http.StatusUnauthorized, func(n int) string { return fmt.Sprintf("%070d lm_sys_", n) }, 0, 0},
		{"unminted keys", "/", http.StatusUnauthorized, func(n int) string { return fmt.Sprintf("lm_sys_%076d", n) }, 0, 0},
		// The store is asked once while the answer is remembered; the soak test takes
		// longer than that.
		{"a revoked key", "/", http.StatusUnauthorized, func(int) string { return revoked }, reads, 0},
		{"another secret for a good key", "/", http.StatusUnauthorized, func(n int) string {
			return p.Keys.Minter.Mint(gone.ID, [32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
		}, reads, 0},
		{"unminted keys, admin plane", plane.KeysPath, http.StatusUnauthorized, func(n int) string { return fmt.Sprintf("lm_sys_%076d", n) }, 0, 0},
		{"wrong JWTs, admin plane", plane.KeysPath, http.StatusUnauthorized, func(n int) string { return wrong[n%len(wrong)] }, 0, 0},
	} {
		t.Run(flood.name, func(t *testing.T) {
			before, goroutines := app.Stats(), runtime.NumGoroutine()
			flood.run(t, p.URL, connections, each, func() {
				if status := client.send(t, "/", good); status != http.StatusOK {
					t.Errorf("a good key got %d", status)
				}
			})
			after := app.Stats()
			if after.Argon2Runs-before.Argon2Runs > flood.argon2 || after.RowReads-before.RowReads > flood.rows || after.Entries != before.Entries {
				t.Errorf("it cost %+v, before it was %+v", after, before)
			}
			eventually(t, "nothing is left of it", func() bool { return runtime.NumGoroutine() <= goroutines+5 })
		})
	}
}

// run has so many connections send, and the good client as long as they do.
func (f floodOf) run(t *testing.T, url string, connections, each int, good func()) {
	t.Helper()
	var running atomic.Int64
	var wg sync.WaitGroup
	running.Store(int64(connections))
	for n := range connections {
		wg.Go(func() {
			defer running.Add(-1)
			client := &flooder{url: url}
			defer client.transport.CloseIdleConnections()
			for i := range each {
				if status := client.send(t, f.path, f.credential(n*each+i)); status != f.status {
					t.Errorf("got %d, want %d", status, f.status)
					return
				}
			}
		})
	}
	for running.Load() > 0 {
		good()
	}
	wg.Wait()
}

// flooder is a client with one connection.
type flooder struct {
	url       string
	transport http.Transport
}

func (c *flooder) send(t *testing.T, path, credential string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+path, http.NoBody)
	if err != nil {
		t.Error(err)
		return 0
	}
	request.Header.Set("Authorization", "Bearer "+credential)
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body) // so that the connection is used again
	return response.StatusCode
}
