package fleet_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// errorSite is a site whose error routes are a proxy to a second upstream.
const errorSite = `
https://ADDRESS {
	bind 127.0.0.1
	tls internal
	system_key_auth
	reverse_proxy FIRST
	handle_errors {
		GATE
		reverse_proxy SECOND
	}
}
`

// TestErrorRouteGetsNothingOfWhatWasCut has 90 requests over each protocol in flight
// through two servers, none of which the upstream has answered, and revokes their
// key at the second. The counts are printed.
func TestErrorRouteGetsNothingOfWhatWasCut(t *testing.T) {
	t.Parallel()
	for name, gate := range map[string]string{"no gate in the error route": "", "a gate with passthrough in the error route": "system_key_auth {\npassthrough\n}"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const each = 45 // over one protocol, at one server
			f := emptyFleet(t, 10*time.Second, "")
			var arrived atomic.Int64
			f.upstream.mux.HandleFunc("/counted", func(_ http.ResponseWriter, r *http.Request) {
				arrived.Add(1)
				hang(r)
			})
			second := newUpstream(t)
			var atSecond, identified atomic.Int64
			second.mux.HandleFunc("/counted", func(w http.ResponseWriter, r *http.Request) {
				atSecond.Add(1)
				for field := range r.Header {
					if strings.HasPrefix(field, "X-Lumio-") {
						identified.Add(1)
						break
					}
				}
				_, _ = io.WriteString(w, "from the second")
			})
			f.sites = strings.NewReplacer("FIRST", f.upstream.address, "SECOND", second.address, "GATE", gate).Replace(errorSite)
			f.start()
			f.start()
			key, plain := f.mint("bot")

			clients := clientsOf(t)
			ask := func(client *http.Client, i *instance, path string) int {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+i.more+path, http.NoBody)
				if err != nil {
					t.Error(err)
					return 0
				}
				request.Header.Set("Authorization", "Bearer "+plain)
				response, err := client.Do(request)
				if err != nil {
					t.Logf("a request was not answered: %v", err)
					return 0
				}
				defer func() { _ = response.Body.Close() }()
				_, _ = io.Copy(io.Discard, response.Body)
				return response.StatusCode
			}
			for protocol, client := range clients { // certificates are made some time after the start
				for _, i := range f.instances {
					eventually(t, protocol+" is served", func() bool { return ask(client, i, "/ok") == http.StatusOK })
				}
			}
			var mu sync.Mutex
			answers := make(map[string]map[int]int) // by protocol and status
			var wg sync.WaitGroup
			for protocol, client := range clients {
				answers[protocol] = make(map[int]int)
				for _, i := range f.instances {
					for range each {
						wg.Go(func() {
							status := ask(client, i, "/counted")
							mu.Lock()
							defer mu.Unlock()
							answers[protocol][status]++
						})
					}
				}
			}
			total := int64(each * len(clients) * len(f.instances))
			eventually(t, "all are in flight", func() bool { return arrived.Load() == total })
			status, body, took := f.instances[1].revoke(key)
			if status != http.StatusOK || !strings.Contains(body, fmt.Sprintf(`"requests_cut":%d`, total)) {
				t.Errorf("%d %s", status, body)
			}
			wg.Wait()
			t.Logf("revoked in %v: %s", took.Round(time.Millisecond), body)
			after := 0
			for protocol, client := range clients {
				got := answers[protocol]
				t.Logf("%s: %d requests in flight were cut: 401 %d, 499 %d, others %v", protocol, each*len(f.instances),
					got[http.StatusUnauthorized], got[499], got)
				if got[http.StatusUnauthorized] != each*len(f.instances) {
					t.Errorf("%s: the answers are %v", protocol, got)
				}
				for _, i := range f.instances {
					for range 10 {
						after++
						if status := ask(client, i, "/counted"); (status != http.StatusUnauthorized) && gate != "" || status == 0 {
							t.Errorf("%s: a request after the answer got %d", protocol, status)
						}
					}
				}
			}
			t.Logf("%d requests after the answer, of them let in: %d", after, arrived.Load()-total)
			t.Logf("the second upstream has got %d requests, with an identity: %d", atSecond.Load(), identified.Load())
			if arrived.Load() != total || identified.Load() != 0 {
				t.Error("a request was let in after the answer, or the second upstream has got an identity")
			}
			// Without a gate there it answers the refusals: those after the answer, which
			// are no requests that were cut.
			want := int64(after)
			if gate != "" {
				want = 0
			}
			if atSecond.Load() != want {
				t.Errorf("the second upstream has got %d requests, want %d", atSecond.Load(), want)
			}
		})
	}
}

// clientsOf are one of each protocol. The sites make their certificates themselves.
func clientsOf(t *testing.T) map[string]*http.Client {
	t.Helper()
	config := func(protocol string) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, ServerName: "127.0.0.1", NextProtos: []string{protocol}}
	}
	dialer := &net.Dialer{Timeout: 20 * time.Second}
	h1 := &http.Transport{TLSClientConfig: config("http/1.1"), DialContext: dialer.DialContext}
	h2 := &http.Transport{TLSClientConfig: config("h2"), ForceAttemptHTTP2: true}
	h3 := &http3.Transport{TLSClientConfig: config(http3.NextProtoH3)}
	t.Cleanup(func() {
		h1.CloseIdleConnections()
		h2.CloseIdleConnections()
		_ = h3.Close()
	})
	clients := make(map[string]*http.Client)
	for name, transport := range map[string]http.RoundTripper{"HTTP/1.1": h1, "HTTP/2": h2, "HTTP/3": h3} {
		clients[name] = &http.Client{Transport: transport, Timeout: 30 * time.Second}
	}
	return clients
}

// TestAStopCutsWhatTheGracePeriodHasLeft stops a server with an event stream open.
// Caddy waits for the grace period, and nobody waits after it.
func TestAStopCutsWhatTheGracePeriodHasLeft(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 10*time.Second, "")
	i := f.instances[0]
	_, plain := f.mint("bot")
	open := openEvents(t, i, plain)
	asked := time.Now()
	i.signal(syscall.SIGTERM)
	var streamed time.Time
	select {
	case e := <-open.ended:
		streamed = e.at
	case <-i.ended:
		streamed = (<-open.ended).at
	case <-time.After(20 * time.Second):
		t.Fatal("neither the stream nor the server ends")
	}
	<-i.ended
	took := time.Since(asked)
	t.Logf("the stream has ended %v, the process %v after the signal; grace_period is %v", streamed.Sub(asked).Round(time.Millisecond), took.Round(time.Millisecond), grace)
	if cut := streamed.Sub(asked); cut < grace || took > grace+3*time.Second {
		t.Errorf("the stream ended after %v, the process after %v", cut, took)
	}
	// In the log, the grace period ends, and only then is the stream cut.
	content := i.tail()
	over, cut := strings.Index(content, "graceful shutdown"), strings.Index(content, "requests in flight were cut")
	if cut < 0 || over > cut {
		t.Errorf("the log does not have both, in this order:\n%s", content)
	}
}
