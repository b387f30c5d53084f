package fleet_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// load is clients that use one key at some servers, again and again.
type load struct {
	key    *store.Key
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu       sync.Mutex
	statuses map[*instance]map[int]int // 0: no answer
	accepted map[*instance][]time.Time // when requests began that were let through
	sent     map[*instance][]time.Time // when those began that were answered
}

// clientsPerServer that use the key at the same time.
const clientsPerServer = 3

// breath is what a client waits between two requests. A request begins at each server
// every one or two milliseconds all the same, and the servers have the processor.
const breath = 4 * time.Millisecond

func hammer(tb testing.TB, key *store.Key, plain string, instances ...*instance) *load {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{key: key, cancel: cancel, statuses: make(map[*instance]map[int]int), accepted: make(map[*instance][]time.Time), sent: make(map[*instance][]time.Time)}
	for _, i := range instances {
		l.statuses[i] = make(map[int]int)
	}
	for _, i := range instances {
		for range clientsPerServer {
			l.ended.Go(func() { l.run(ctx, i, plain) })
		}
	}
	tb.Cleanup(l.stop)
	for _, i := range instances {
		eventually(tb, "requests are served", func() bool { return l.count(i, http.StatusOK) > 20 })
	}
	return l
}

func (l *load) run(ctx context.Context, i *instance, plain string) {
	for ctx.Err() == nil {
		began := time.Now()
		response, err := i.do(ctx, http.MethodGet, "/ok", plain)
		if ctx.Err() != nil {
			return
		}
		status := 0
		if err == nil {
			status = response.StatusCode
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
		l.mu.Lock()
		l.statuses[i][status]++
		if status != 0 {
			l.sent[i] = append(l.sent[i], began)
		}
		if status == http.StatusOK {
			l.accepted[i] = append(l.accepted[i], began)
		}
		l.mu.Unlock()
		time.Sleep(breath)
	}
}

// stop ends the load. It can be called more than once.
func (l *load) stop() {
	l.cancel()
	l.ended.Wait()
}

func (l *load) count(i *instance, status int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.statuses[i][status]
}

// last is when the last request began that the server let through.
func (l *load) last(i *instance) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	times := l.accepted[i]
	if len(times) == 0 {
		return time.Time{}
	}
	return slices.MaxFunc(times, time.Time.Compare)
}

// wantNoneAfter checks that no server has let a request through that began later.
func (l *load) wantNoneAfter(tb testing.TB, answer time.Time) {
	tb.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, times := range l.accepted {
		if late := after(answer, times); late > 0 {
			tb.Errorf("%s let %d requests through after the answer", i.name, late)
		}
	}
}

// after counts the times that are later.
func after(answer time.Time, times []time.Time) (late int) {
	for _, began := range times {
		if began.After(answer) {
			late++
		}
	}
	return late
}

// since counts the requests of all servers that began later.
func (l *load) since(answer time.Time, began map[*instance][]time.Time) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, times := range began {
		n += after(answer, times)
	}
	return n
}

// total is how many requests were answered.
func (l *load) total() int { return l.since(time.Time{}, l.sent) }

// after counts the requests that began later and were answered, and those of them
// that were let through.
func (l *load) after(answer time.Time) (sent, let int) {
	return l.since(answer, l.sent), l.since(answer, l.accepted)
}

// wantRefused waits until the key is refused everywhere, and stays so.
func (l *load) wantRefused(tb testing.TB, within time.Duration) {
	tb.Helper()
	began := time.Now()
	for i := range l.statuses {
		before := l.count(i, http.StatusUnauthorized)
		eventually(tb, i.name+" refuses the key", func() bool { return l.count(i, http.StatusUnauthorized) > before })
	}
	settle()
	for i := range l.statuses {
		if took := l.last(i).Sub(began); took > within {
			tb.Errorf("%s let requests through for %v", i.name, took)
		}
	}
}

// summary is what the clients got, by server.
func (l *load) summary() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out string
	for _, i := range slices.SortedFunc(maps.Keys(l.statuses), func(a, b *instance) int { return len(a.name) - len(b.name) }) {
		out += fmt.Sprintf("%s: %v ", i.name, l.statuses[i])
	}
	return out
}
