package fleet_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	verifying "github.com/lumio-vision/caddy-system-keys/upstream"
)

// balancer is what stands before the servers: it knows which are there, and asks one
// at random.
type balancer struct {
	mu        sync.Mutex
	instances []*instance
	results   map[string]int // answers and errors, by server and text
	accepted  int
}

func (b *balancer) add(i *instance) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.instances = append(b.instances, i)
}

func (b *balancer) remove(i *instance) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.instances = slices.DeleteFunc(b.instances, func(other *instance) bool { return other == i })
}

func (b *balancer) pick() *instance {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.instances[rand.IntN(len(b.instances))]
}

// RoundTrip reads the public keys of any server.
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = b.pick().address
	r.Host = r.URL.Host
	return http.DefaultTransport.RoundTrip(r)
}

// load sends until ctx ends.
func (b *balancer) load(ctx context.Context, key string) {
	for ctx.Err() == nil {
		i := b.pick()
		response, err := i.do(ctx, http.MethodGet, "/signed?"+fmt.Sprint(rand.IntN(1000)), key)
		if ctx.Err() != nil {
			return
		}
		result := ""
		switch {
		case err != nil:
			result = i.name + ": " + err.Error()
		default:
			body, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if response.StatusCode != http.StatusOK {
				result = fmt.Sprintf("%s: %d %s", i.name, response.StatusCode, body)
			}
		}
		b.mu.Lock()
		if result == "" {
			b.accepted++
		} else {
			b.results[result]++
		}
		b.mu.Unlock()
		time.Sleep(breath)
	}
}

func (b *balancer) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.accepted
}

// refused are the results that the filter keeps, and how often.
func (b *balancer) refused(keep func(result string) bool) map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := maps.Clone(b.results)
	maps.DeleteFunc(kept, func(result string, _ int) bool { return !keep(result) })
	return kept
}

// TestRollingRestartRefusesNoAssertion replaces three servers twice, one at a time,
// under load on all of them, and then kills one. A service verifies each request, and
// reads the public keys of any server.
func TestRollingRestartRefusesNoAssertion(t *testing.T) {
	t.Parallel()
	f := emptyFleet(t, 10*time.Second, "")
	f.keyAuth = "assertion fleet"
	b := &balancer{results: make(map[string]int)}
	verifier := verifying.New("http://balancer/.well-known/lumio-keys.json", "fleet",
		verifying.WithHTTPClient(&http.Client{Transport: b}), verifying.WithLogger(slog.New(slog.DiscardHandler)))
	f.upstream.mux.Handle("/signed", verifier.Require("bots:read")(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok")
	})))
	_, plain := f.mint("bot", "bots:read")
	for range 3 {
		b.add(f.start())
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	for range 6 {
		clients.Go(func() { b.load(ctx, plain) })
	}
	more := func() {
		t.Helper()
		before := b.count()
		defer func() {
			if t.Failed() {
				t.Log(b.refused(func(string) bool { return true }))
			}
		}()
		eventually(t, "requests are served", func() bool { return b.count() > before+200 })
	}
	more()
	for range 2 {
		for _, old := range slices.Clone(b.instances) {
			b.add(f.start())
			more()
			b.remove(old)
			time.Sleep(50 * time.Millisecond) // who has picked it has asked it
			old.signal(syscall.SIGTERM)
			more()
			<-old.ended
		}
	}
	if refused := b.refused(func(string) bool { return true }); len(refused) > 0 {
		t.Errorf("of %d requests some were refused: %v", b.count(), refused)
	}
	t.Logf("%d requests through a rolling restart, none refused", b.count())

	// Who is killed takes requests with it, and no signature becomes bad by it.
	killed := b.pick()
	killed.signal(syscall.SIGKILL)
	<-killed.ended
	b.remove(killed)
	b.add(f.start())
	more()
	cancel()
	clients.Wait()
	other := func(result string) bool {
		return !strings.HasPrefix(result, killed.name+":") || strings.Contains(result, ": 401")
	}
	if refused := b.refused(other); len(refused) > 0 {
		t.Errorf("after a crash: %v", refused)
	}
}
