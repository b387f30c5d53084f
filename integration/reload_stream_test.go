package integration_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// ticks is an upstream whose answer never ends.
func ticks(tb testing.TB) string {
	tb.Helper()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, "tick\n")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	}))
	tb.Cleanup(func() {
		upstream.CloseClientConnections()
		upstream.Close()
	})
	return upstream.Listener.Addr().String()
}

// TestAReloadLeavesOldStreamsCuttable reloads under a stream, once so that its
// engine goes on and once so that it is replaced, and then revokes the key.
func TestAReloadLeavesOldStreamsCuttable(t *testing.T) {
	for _, b := range backends(t) {
		for name, change := range map[string]string{"the same engine": "", "another engine": "\nlease 7s"} {
			t.Run(b.name+", "+name, func(t *testing.T) {
				keys := b.keys(t)
				key, plain := mint(t, keys, "bot")
				s := site{address: testenv.FreeAddress(t), options: b.options, body: "system_key_auth\nreverse_proxy " + ticks(t)}
				load(t, s.caddyfile())
				ended := make(chan error, 1)
				began := make(chan struct{})
				go stream(s.address, plain, began, ended)
				<-began
				s.options += change
				s.body += "\nheader X-Reloaded yes"
				load(t, s.caddyfile())
				select {
				case err := <-ended:
					t.Fatalf("the reload has ended the stream: %v", err)
				case <-time.After(100 * time.Millisecond):
				}
				asked := time.Now()
				revoked := revokeAndWait(t, keys, key)
				if revoked.Report.Cut != 1 || len(revoked.Report.Expired) != 0 {
					t.Errorf("the report is %+v", revoked.Report)
				}
				select {
				case err := <-ended:
					t.Logf("ended after %v: %v", time.Since(asked), err)
				case <-time.After(time.Second):
					t.Error("the stream goes on")
				}
				if change != "" {
					eventually(t, "the old engine ends", func() bool { return app.Stats().Engines == 1 })
				}
			})
		}
	}
}

func stream(address, plain string, began chan<- struct{}, ended chan<- error) {
	request, _ := http.NewRequest(http.MethodGet, "http://"+address, nil)
	request.Header.Set("Authorization", "Bearer "+plain)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", response.StatusCode)
	}
	if err == nil {
		_, err = io.ReadFull(response.Body, make([]byte, 5))
	}
	close(began)
	for buffer := make([]byte, 1024); err == nil; {
		_, err = response.Body.Read(buffer)
	}
	ended <- err
}

func revokeAndWait(tb testing.TB, keys *admin.Service, key *store.Key) *admin.Revoked {
	tb.Helper()
	revocation, err := keys.Revoke(tb.Context(), admin.CLI(), key.ID)
	if err != nil {
		tb.Fatal(err)
	}
	revoked, err := revocation.Wait(tb.Context(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return revoked
}
