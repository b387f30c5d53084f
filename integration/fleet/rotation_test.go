package fleet_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// The ends of the keys that [TestRotation] replaces. The grace is longer than a lease. A busy
// machine must be able to start a server again before the deadline.
const (
	rotationLease    = 2 * time.Second
	rotationGrace    = 3 * time.Second
	rotationDeadline = 12 * time.Second
)

// TestRotation rotates twenty keys five times, all at once, at three servers, while clients
// use each key and its successor at each server. Each time a server is killed at another
// step. No client that holds a good key may be told that it is not, and none may be let
// through after its key has ended.
func TestRotation(t *testing.T) {
	t.Parallel()
	const keys = 20
	f := newFleet(t, 3, rotationLease, "")
	var chains []*chain
	for n := range keys {
		key, plain := f.mint(fmt.Sprintf("rotated %d", n))
		chains = append(chains, &chain{fleet: f, current: rotatedKey{id: key.ID, plain: plain}, late: n%4 == 3})
	}
	var all tally
	t.Logf("\n%-42s good  refused  rotations  again  let through after", "kill -9 of a server")
	for n, step := range []string{
		"not at all", "while it mints", "when it has answered", "when it has let a successor through", "when the old keys end",
	} {
		var round tally
		f.rotateAll(t, chains, f.instances[n%len(f.instances)], n, &round)
		t.Logf("%-42s %-5d %-8d %-10d %-6d %d", step, round.good.Load(), round.refused.Load(), round.rotations.Load(), round.again.Load(), round.late.Load())
		all.add(&round)
	}
	if n := all.rotations.Load(); n != 5*keys {
		t.Errorf("%d rotations, want %d", n, 5*keys)
	}
	eventually(t, "the old keys are deleted", func() bool {
		page, err := f.store.Keys(context.Background(), &store.KeyQuery{Limit: 100, Sort: store.SortLabel})
		return err == nil && page.Total == keys+1
	})
	for _, c := range chains {
		for _, old := range c.ended {
			page, err := f.store.Audit(t.Context(), &store.AuditQuery{Limit: 10, Key: old, Event: store.AuditRevoked})
			if err != nil || len(page.Records) != 1 || !strings.Contains(string(page.Records[0].Details), `"reason":"rotated"`) {
				t.Errorf("the records of %s: %+v, %v", old, page, err)
			}
		}
	}
}

// tally counts what became of requests and rotations.
type tally struct{ good, refused, rotations, again, late atomic.Int64 }

func (t *tally) add(other *tally) {
	t.good.Add(other.good.Load())
	t.refused.Add(other.refused.Load())
	t.rotations.Add(other.rotations.Load())
	t.again.Add(other.again.Load())
	t.late.Add(other.late.Load())
}

// chain is a key and its successors.
type chain struct {
	fleet   *fleet
	current rotatedKey
	late    bool // the successor is used only after the old key has ended
	ended   []store.ID
}

type rotatedKey struct {
	id    store.ID
	plain string
}

// rotateAll rotates the key of each chain once. The server is killed at the step.
func (f *fleet) rotateAll(t *testing.T, chains []*chain, victim *instance, step int, round *tally) {
	t.Helper()
	kill := func() {
		victim.signal(syscall.SIGKILL)
		<-victim.ended
		victim.launch()
	}
	// Each is passed when all chains have come there.
	sending, answered, used, ending := new(sync.WaitGroup), new(sync.WaitGroup), new(sync.WaitGroup), new(sync.WaitGroup)
	steps := []*sync.WaitGroup{nil, sending, answered, used, ending}
	for _, s := range steps[1:] {
		s.Add(len(chains))
	}
	var group sync.WaitGroup
	for _, c := range chains {
		group.Go(func() { c.rotate(t, victim, sending, answered, used, ending, round) })
	}
	if passed := steps[step]; passed != nil {
		passed.Wait()
		time.Sleep(rand.N(20 * time.Millisecond))
		kill()
	}
	group.Wait()
	for _, i := range f.instances {
		eventually(t, i.name+" serves", func() bool { status, _ := i.get("/ok", f.adminKey); return status == http.StatusOK })
	}
}

// rotate rotates the key at a server, or at another one if that does not answer, and watches
// what clients get.
func (c *chain) rotate(t *testing.T, at *instance, sending, answered, used, ending *sync.WaitGroup, round *tally) {
	old := c.current
	oldClients := c.use(old)
	time.Sleep(100 * time.Millisecond)
	sending.Done()
	began := time.Now()
	next := c.mint(t, at, round)
	minted := time.Now()
	answered.Done()
	if next.plain == "" {
		t.Errorf("no successor of %s", old.id)
		used.Done()
		ending.Done()
		oldClients.stop()
		return
	}
	time.Sleep(50 * time.Millisecond)
	var nextClients *clients
	if !c.late {
		nextClients = c.use(next)
		eventually(t, "the successor is used", func() bool { return nextClients.good() > 0 })
	}
	used.Done()
	end := c.watchEnd(t, old, minted, func(left time.Duration) bool { return left < 100*time.Millisecond })
	ending.Done()
	end = c.watchEnd(t, old, end, func(left time.Duration) bool { return left < -700*time.Millisecond })
	if nextClients == nil {
		nextClients = c.use(next)
		time.Sleep(300 * time.Millisecond)
	}
	oldClients.stop()
	nextClients.stop()
	good, refused, late := oldClients.judge(end)
	nextGood, nextRefused, _ := nextClients.judge(time.Now())
	if refused > 0 || nextRefused > 0 || late > 0 {
		t.Errorf("%s, which ended at %v: %d requests with a good key were refused, %d with its successor, and %d were let through after the end",
			old.id, end, refused, nextRefused, late)
	}
	if good == 0 || nextGood == 0 || !end.After(minted) || end.After(minted.Add(rotationDeadline+time.Second)) {
		t.Errorf("%s: %d requests, %d with the successor, which was minted at %v, and the old key ended at %v", old.id, good, nextGood, minted, end)
	}
	if c.late && end.Before(began.Add(rotationDeadline)) {
		t.Errorf("%s was replaced after %v and ended at %v, although its successor was not used", old.id, began, end)
	}
	round.good.Add(int64(good + nextGood))
	round.refused.Add(int64(refused + nextRefused))
	round.late.Add(int64(late))
	round.rotations.Add(1)
	c.current = next
	c.ended = append(c.ended, old.id)
}

// mint rotates the current key until there is an answer.
func (c *chain) mint(t *testing.T, at *instance, round *tally) (next rotatedKey) {
	body := fmt.Sprintf(`{"grace":"%v","deadline":"%v"}`, rotationGrace, rotationDeadline)
	path := "/v1/admin/system-keys/" + c.current.id.String() + "/rotate"
	for attempt, began := 0, time.Now(); time.Since(began) < rotationDeadline; attempt++ {
		if attempt > 0 {
			round.again.Add(1)
			at = c.fleet.instances[attempt%len(c.fleet.instances)]
			time.Sleep(20 * time.Millisecond)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+at.address+path, strings.NewReader(body))
		if err != nil {
			t.Error(err)
		}
		request.Header.Set("Authorization", "Bearer "+c.fleet.adminKey)
		request.Header.Set("Content-Type", "application/json")
		var answer struct {
			Data struct {
				ID  store.ID
				Key string
			}
		}
		response, err := client.Do(request)
		if err == nil {
			err = json.NewDecoder(response.Body).Decode(&answer)
			_ = response.Body.Close()
		}
		cancel()
		switch {
		case err != nil, response.StatusCode == http.StatusServiceUnavailable:
		case response.StatusCode == http.StatusCreated:
			return rotatedKey{answer.Data.ID, answer.Data.Key}
		default:
			t.Errorf("a rotation is answered with %d", response.StatusCode)
			return next
		}
	}
	return next
}

// watchEnd returns when the key ends, as its row has it last, once so much time is left. The
// row goes after the end.
func (c *chain) watchEnd(t *testing.T, old rotatedKey, end time.Time, over func(left time.Duration) bool) time.Time {
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(20 * time.Millisecond) {
		if key, err := c.fleet.store.Key(t.Context(), old.id); err == nil {
			end = key.ExpiresAt
		}
		if over(time.Until(end)) {
			return end
		}
	}
	t.Errorf("%s does not end: %v", old.id, end)
	return end
}

// clients use a key at each server, and keep what they got.
type clients struct {
	cancel context.CancelFunc
	ended  sync.WaitGroup
	mu     sync.Mutex
	got    []outcome
}

type outcome struct {
	began, ended time.Time
	status       int
}

func (c *chain) use(key rotatedKey) *clients {
	ctx, cancel := context.WithCancel(context.Background())
	all := &clients{cancel: cancel}
	for _, i := range c.fleet.instances {
		all.ended.Go(func() {
			for ctx.Err() == nil {
				o := outcome{began: time.Now()}
				o.status, _ = i.get("/ok", key.plain)
				o.ended = time.Now()
				all.mu.Lock()
				all.got = append(all.got, o)
				all.mu.Unlock()
				time.Sleep(20 * breath)
			}
		})
	}
	return all
}

func (c *clients) stop() {
	c.cancel()
	c.ended.Wait()
}

// good is how many requests were let through so far.
func (c *clients) good() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.got {
		if o.status == http.StatusOK {
			n++
		}
	}
	return n
}

// judge counts the requests that were let through, those that were answered before the end
// of the key and refused, and those that began after it and were let through.
func (c *clients) judge(end time.Time) (good, refused, late int) {
	for _, o := range c.got {
		switch {
		case o.status == http.StatusOK && o.began.After(end):
			late++
		case o.status == http.StatusOK:
			good++
		case o.status == http.StatusUnauthorized && o.ended.Before(end):
			refused++
		}
	}
	return good, refused, late
}
