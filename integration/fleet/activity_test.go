package fleet_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// useInterval is how often the servers of [TestActivityAgainstAGroundTruth] write.
const useInterval = 500 * time.Millisecond

// TestActivityAgainstAGroundTruth sends 8,000 requests (SOAK=1: a million) with twenty keys to
// three servers, first undisturbed, and then while one of them is killed. What the store has
// counted must be exact, but for what the killed server had answered since its last write.
func TestActivityAgainstAGroundTruth(t *testing.T) {
	t.Parallel()
	requests := 4_000
	if soak() {
		requests = 500_000
	}
	f := newFleet(t, 3, 10*time.Second, "last_used_interval "+useInterval.String())
	truth := &groundTruth{fleet: f}
	for n := range 20 {
		key, plain := f.mint(fmt.Sprintf("counted %d", n))
		truth.keys = append(truth.keys, countedKey{id: key.ID, plain: plain})
	}

	truth.send(requests)
	answered, unsure := truth.sums()
	counted := func() (sum int64) {
		for i := range truth.keys {
			sum += truth.counted(t, &truth.keys[i])
		}
		return sum
	}
	eventually(t, "all requests are counted", func() bool { return counted() == answered })
	t.Logf("undisturbed: %d requests were answered, %d are counted", answered, counted())
	if unsure != 0 {
		t.Errorf("%d requests were not answered", unsure)
	}
	for i := range truth.keys {
		if key := &truth.keys[i]; truth.counted(t, key) != key.answered.Load() {
			t.Errorf("%d requests of a key were answered, and %d are counted", key.answered.Load(), truth.counted(t, key))
		}
	}

	victim := f.instances[0]
	var ended sync.WaitGroup
	ended.Go(func() { truth.send(requests) })
	for began := time.Now(); truth.sent.Load() <= int64(requests*3/2); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 10*time.Minute {
			t.Fatal("the requests are not sent")
		}
	}
	// A write may take as long as the time between two.
	window := truth.answeredBy(victim, 2*useInterval+time.Second)
	victim.signal(syscall.SIGKILL)
	<-victim.ended
	lost := window()
	victim.launch()
	ended.Wait()
	answered, unsure = truth.sums()
	eventually(t, "all other requests are counted", func() bool { return counted() >= answered-lost })
	time.Sleep(3 * useInterval) // what is counted twice may come late
	t.Logf("with kill -9: %d requests were answered, %d got no answer, %d are counted; the server had answered %d since its write before",
		answered, unsure, counted(), lost)
	if n := counted(); n > answered+unsure {
		t.Errorf("%d requests are counted, and only %d were sent", n, answered+unsure)
	}
}

// groundTruth are requests, and what became of them.
type groundTruth struct {
	fleet *fleet
	keys  []countedKey
	sent  atomic.Int64

	mu     sync.Mutex
	recent map[*instance][]time.Time // when requests were answered
}

type countedKey struct {
	id               store.ID
	plain            string
	answered, unsure atomic.Int64
}

// send sends requests, each with any key to any server.
func (g *groundTruth) send(requests int) {
	var group sync.WaitGroup
	var next atomic.Int64
	for range 8 {
		group.Go(func() {
			for next.Add(1) <= int64(requests) {
				at := g.fleet.instances[rand.N(len(g.fleet.instances))]
				key := &g.keys[rand.N(len(g.keys))]
				status, _ := at.get("/ok", key.plain)
				g.sent.Add(1)
				switch status {
				case http.StatusOK:
					key.answered.Add(1)
					g.note(at)
				case 0:
					key.unsure.Add(1)
				}
			}
		})
	}
	group.Wait()
}

// note remembers the answers of a few seconds.
func (g *groundTruth) note(at *instance) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.recent == nil {
		g.recent = make(map[*instance][]time.Time)
	}
	all := append(g.recent[at], time.Now())
	if len(all) > 100_000 {
		all = append(all[:0:0], all[50_000:]...)
	}
	g.recent[at] = all
}

// answeredBy returns a function that counts the answers of a server from some time before now
// until it is called.
func (g *groundTruth) answeredBy(at *instance, before time.Duration) func() int64 {
	since := time.Now().Add(-before)
	return func() int64 {
		g.mu.Lock()
		defer g.mu.Unlock()
		return int64(after(since, g.recent[at]))
	}
}

func (g *groundTruth) sums() (answered, unsure int64) {
	for i := range g.keys {
		answered, unsure = answered+g.keys[i].answered.Load(), unsure+g.keys[i].unsure.Load()
	}
	return answered, unsure
}

// counted is how many requests of the key the store has.
func (g *groundTruth) counted(tb testing.TB, key *countedKey) (sum int64) {
	tb.Helper()
	activity, err := g.fleet.store.Activity(tb.Context(), key.id)
	if err != nil {
		tb.Fatal(err)
	}
	for _, day := range activity.Days {
		sum += day.Requests
	}
	return sum
}
