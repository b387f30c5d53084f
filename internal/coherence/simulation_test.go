package coherence_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// simulatedSeeds is how many histories TestSimulation makes, a third of them where the
// environment has no SOAK. It may give another number, or one seed to repeat.
const (
	simulatedSeeds = 24
	seedsVariable  = "SIMULATION_SEEDS"
	seedVariable   = "SIMULATION_SEED"
)

// simulation is one history: some instances, clients, revokers and faults, in a
// bubble whose clock advances only when everybody waits.
type simulation struct {
	database *database
	minter   *token.Minter
	history  *history
	end      time.Time

	mu        sync.Mutex
	started   atomic.Int64
	instances []*instance
	keys      []*simulatedKey
	injected  map[string]int
	restored  time.Time // the last time that a backup was
	tasks     sync.WaitGroup
}

func newSimulation(random *rand.Rand, plainSequence bool) *simulation {
	s := &simulation{
		database: newDatabase(rand.New(rand.NewPCG(random.Uint64(), 3))),
		minter:   simulatedMintKey, history: new(history), injected: make(map[string]int),
		end: time.Now().Add(20 * time.Second),
	}
	s.database.plainSequence = plainSequence
	for range 3 + random.IntN(3) {
		s.instances = append(s.instances, s.start(random))
	}
	s.live(random)
	return s
}

func (s *simulation) over() bool { return time.Now().After(s.end) }

// pick draws an instance that runs.
func (s *simulation) pick(random *rand.Rand) *instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.instances[random.IntN(len(s.instances))]
}

// strand leaves some instances' pools at an old primary, or none.
func (s *simulation) strand(old *backup, random *rand.Rand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.instances {
		if old == nil || random.IntN(2) == 0 {
			i.link.set(func() { i.link.old = old })
		}
	}
}

// take is pick, and removes it. At least two instances are left.
func (s *simulation) take(random *rand.Rand) *instance {
	for {
		s.mu.Lock()
		if len(s.instances) > 2 {
			at := random.IntN(len(s.instances))
			i := s.instances[at]
			s.instances = slices.Delete(s.instances, at, at+1)
			s.mu.Unlock()
			return i
		}
		s.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
}

func (s *simulation) put(i *instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instances = append(s.instances, i)
}

func (s *simulation) count(fault string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.injected[fault]++
}

// key draws one of the newest keys, of which most are live.
func (s *simulation) key(random *rand.Rand) *simulatedKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := s.keys[max(0, len(s.keys)-20):]
	return newest[random.IntN(len(newest))]
}

// simulatedKeys is how many keys are live at a time.
const simulatedKeys = 10

// live draws one of the keys that nobody has revoked, and mints what is missing.
func (s *simulation) live(random *rand.Rand) *simulatedKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	live := s.history.live(s.keys)
	for len(live) < simulatedKeys {
		key := s.mint(random)
		s.keys = append(s.keys, key)
		live = append(live, key)
	}
	return live[random.IntN(len(live))]
}

// fresh mints a key.
func (s *simulation) fresh(random *rand.Rand) *simulatedKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := s.mint(random)
	s.keys = append(s.keys, key)
	return key
}

func (s *simulation) restore(b backup, tell bool) {
	s.history.prune()
	applied := s.applied()
	s.database.restore(b, tell)
	s.mu.Lock()
	defer s.mu.Unlock()
	// A place of the history before the last may have any revision.
	settled := time.Since(s.restored) > 2*simulatedTTL
	s.restored = time.Now()
	for _, key := range s.keys {
		_, there := s.database.row(key.id)
		s.history.restored(key, there, settled && applied >= key.rev)
	}
}

// applied is how far every instance has come.
func (s *simulation) applied() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	rev := int64(math.MaxInt64)
	for _, i := range s.instances {
		rev = min(rev, i.follower.Place().Applied.Rev)
	}
	return rev
}

// clients send requests, one in ten of which is a stream.
func (s *simulation) clients(random *rand.Rand) {
	for !s.over() {
		time.Sleep(between(random, 100*time.Microsecond, 12*time.Millisecond))
		i, key := s.pick(random), s.key(random)
		var stream time.Duration
		if random.IntN(10) == 0 {
			stream = between(random, 50*time.Millisecond, 3*simulatedTTL)
		}
		s.tasks.Go(func() { s.ask(i, key, stream) })
	}
}

// revokers revoke keys, most of which are live.
func (s *simulation) revokers(random *rand.Rand) {
	for !s.over() {
		time.Sleep(between(random, 10*time.Millisecond, 300*time.Millisecond))
		i, key := s.pick(random), s.live(random)
		if random.IntN(10) == 0 {
			key = s.key(random) // may be gone
		}
		s.history.revoke(key)
		way, seed := random.IntN(10), random.Uint64()
		s.tasks.Go(func() { s.revoke(i, key, way, seed) })
	}
}

// revoke does it by an instance, by the command line, or by plain SQL, and tries
// again if the outcome is not known.
func (s *simulation) revoke(i *instance, key *simulatedKey, way int, seed uint64) {
	began := time.Now()
	service := i.service
	switch way {
	case 0:
		_, _ = s.database.change(key.id, store.KeyDeleted, time.Millisecond, nil) // says nothing of a key that is gone
		return
	case 1, 2:
		link := newLink(s.database, seed)
		service = &admin.Service{
			Store: link, Minter: s.minter, Now: time.Now,
			Revoker: coherence.NewRevoker(link, time.Now, slog.New(slog.DiscardHandler)),
		}
	}
	for range 10 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		revocation, err := service.Revoke(ctx, admin.CLI(), key.id)
		cancel()
		if err == nil {
			_, err = revocation.Wait(context.Background(), nil)
			_, there := s.database.row(key.id)
			s.mu.Lock()
			// Who was not there when the history changed cannot know of it.
			stranger := (service != i.service || i.born.After(s.restored)) && !s.restored.IsZero() &&
				time.Since(s.restored) < 3*simulatedTTL
			s.mu.Unlock()
			if service == i.service && i.dead.Load() || stranger {
				return
			}
			s.history.answer(key, began, there, err)
			return
		}
		if service == i.service && i.dead.Load() {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// changers change keys that stay: in ways that no request may notice, and by
// taking a permission.
func (s *simulation) changers(random *rand.Rand) {
	for !s.over() {
		time.Sleep(between(random, 10*time.Millisecond, 300*time.Millisecond))
		key, pause := s.key(random), between(random, time.Microsecond, 3*time.Millisecond)
		switch random.IntN(4) {
		case 0:
			_, _ = s.database.change(key.id, store.KeyChanged, pause, func(row *store.Key) { row.Label += "." })
		case 1:
			hash, err := phc.Hash(key.plain, simulatedCost)
			if err != nil {
				panic(err)
			}
			s.history.rehash(key)
			_, _ = s.database.change(key.id, store.KeyRehashed, pause, func(row *store.Key) { row.Hash = store.Hash(hash) })
		case 2:
			_, _ = s.database.change(key.id, store.KeyChanged, pause, func(row *store.Key) {
				row.Permissions = append(slices.Clone(row.Permissions), "c:read")
			})
		default:
			s.history.narrow(key)
			_, _ = s.database.change(key.id, store.KeyChanged, pause, func(row *store.Key) { row.Permissions = nil })
		}
	}
}

// run plays one history, and then has everything heal: every revocation is
// answered, live keys are served everywhere and revoked ones nowhere.
func (s *simulation) run(tb testing.TB, random *rand.Rand) {
	var actors sync.WaitGroup
	for _, play := range []func(*rand.Rand){
		s.clients, s.clients, s.clients, s.clients, s.revokers, s.revokers, s.changers, s.inject, s.inject,
	} {
		own := rand.New(rand.NewPCG(random.Uint64(), 4))
		actors.Go(func() { play(own) })
	}
	actors.Wait()
	s.tasks.Wait()
	time.Sleep(4 * simulatedTTL)
	s.checkHealed(tb)
	for _, i := range s.instances {
		if err := i.stop(); err != nil {
			tb.Errorf("%s could not leave: %v", i.name, err)
		}
	}
	if n := len(s.members()); n != 0 {
		tb.Errorf("%d members are left", n)
	}
}

func (s *simulation) members() map[store.ID]store.Member { return s.database.backup().members }

func (s *simulation) checkHealed(tb testing.TB) {
	for _, i := range s.instances {
		for _, key := range s.keys {
			_, there := s.database.row(key.id)
			_, _, err := i.verifier.Admit(context.Background(), key.plain, "", nil)
			if (err == nil) != there {
				tb.Errorf("after all is healed %s says %v to a key whose row is there: %v", i.name, err, there)
			}
		}
	}
}

// simulate plays the history of a seed.
func simulate(t *testing.T, seed uint64, plainSequence bool) *simulation {
	t.Helper()
	var s *simulation
	t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			s = newSimulation(random, plainSequence)
			s.run(t, random)
		})
	})
	return s
}

// TestSimulation makes histories at random, and prints what was in them. A seed
// that fails is repeated with SIMULATION_SEED.
func TestSimulation(t *testing.T) {
	first, count := uint64(1), simulatedSeeds
	if os.Getenv("SOAK") == "" {
		count /= 3
	}
	if text := os.Getenv(seedsVariable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", seedsVariable, err)
		}
		count = n
	}
	if text := os.Getenv(seedVariable); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
		first, count = n, 1
	}
	total := new(history)
	injected := make(map[string]int)
	for seed := first; seed < first+uint64(count); seed++ {
		s := simulate(t, seed, os.Getenv(plainSequenceVariable) != "")
		for _, violation := range s.history.violations {
			t.Errorf("seed %d: %s", seed, violation)
		}
		total.add(s.history)
		for name, n := range s.injected {
			injected[name] += n
		}
		if t.Failed() {
			t.Errorf("repeat it with %s=%d", seedVariable, seed)
			break
		}
	}
	report(t, total, injected, first, count)
	if total.answered == 0 || total.cuts == 0 || total.accepted == 0 {
		t.Error("nothing happened")
	}
}

// These seed the faults that are not in our code but in the database.
const (
	plainSequenceVariable   = "SIMULATION_PLAIN_SEQUENCE"
	goneUnloggedVariable    = "SIMULATION_GONE_UNLOGGED"
	insertsUnloggedVariable = "SIMULATION_INSERTS_UNLOGGED"
)

func report(t *testing.T, h *history, injected map[string]int, first uint64, count int) {
	t.Helper()
	var out strings.Builder
	fmt.Fprintf(&out, "seeds %d to %d: %d histories, %d events\n", first, first+uint64(count)-1, count, h.events)
	fmt.Fprintf(&out, "revocations: %d, answered %d, of which %d of keys that were gone\n", h.revocations, h.answered, h.repeats)
	fmt.Fprintf(&out, "served %d, refused %d, unavailable %d, cut %d, cut by the end of a lease %d\n",
		h.accepted, h.refusals, h.unavailable, h.cuts, h.lapses)
	for _, name := range slices.Sorted(maps.Keys(injected)) {
		fmt.Fprintf(&out, "fault %q: %d\n", name, injected[name])
	}
	fmt.Fprintf(&out, "acceptances after the answer, and other violations: %d\n", len(h.violations))
	fmt.Fprintf(&out, "revoke to answer: p50 %v, p99 %v (lease %v)\n", percentile(h.toAnswer, 50), percentile(h.toAnswer, 99), simulatedTTL)
	fmt.Fprintf(&out, "revoke to the last request served: p50 %v, p99 %v\n", percentile(h.toLast, 50), percentile(h.toLast, 99))
	t.Log("\n" + out.String())
}
