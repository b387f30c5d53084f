package coherence_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// hardware is the clocks of one machine: they run somewhat too fast or too slow,
// the wall clock is stepped, and the monotonic clock stands still while the
// machine is suspended.
type hardware struct {
	rate  float64
	epoch time.Time

	mu    sync.Mutex
	steps []step
	slept time.Duration
}

type step struct{ at, by time.Duration } // on the monotonic clock

// now encodes the monotonic clock alone; split looks up what the wall clock was.
func (h *hardware) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.epoch.Add(h.mono())
}

// mono needs the lock.
func (h *hardware) mono() time.Duration {
	return time.Duration(float64(time.Since(h.epoch))*h.rate) - h.slept
}

func (h *hardware) split(t time.Time) (mono, wall time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	mono = t.Sub(h.epoch)
	wall = mono
	for _, s := range h.steps {
		if s.at <= mono {
			wall += s.by
		}
	}
	return mono, wall
}

func (h *hardware) stepWall(by time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.steps = append(h.steps, step{h.mono(), by})
}

// suspend has the monotonic clock miss the time that is given, and the wall clock
// show it.
func (h *hardware) suspend(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.slept += time.Duration(float64(d)*h.rate) - time.Microsecond // it never goes back
	h.steps = append(h.steps, step{h.mono(), d})
}

// instance is one process: a real verifier, lease, follower and registry, and the
// real rules of the admin plane, on a link.
type instance struct {
	name     string
	clock    *hardware
	link     *link
	lease    *coherence.Lease
	inFlight *coherence.InFlight
	verifier *verify.Verifier
	follower *coherence.Follower
	service  *admin.Service
	born     time.Time
	dead     atomic.Bool
}

const simulatedTTL = 2 * time.Second

var simulatedCost = phc.Params{Memory: 8, Iterations: 1, Parallelism: 1}

func (s *simulation) start(random *rand.Rand) *instance {
	i := &instance{
		name:  fmt.Sprintf("instance-%d", s.started.Add(1)),
		clock: &hardware{rate: 0.991 + 0.018*random.Float64(), epoch: time.Now()},
		link:  newLink(s.database, random.Uint64()),
		born:  time.Now(),
	}
	now := func() time.Time {
		i.link.gate()
		return i.clock.now()
	}
	i.lease = coherence.NewLeaseOn(simulatedTTL, now, i.clock.split)
	i.inFlight = coherence.NewInFlight(now)
	i.verifier = verify.New(verify.Config{
		Store: i.link, Lease: i.lease, InFlight: i.inFlight, Minter: s.minter,
		Slots: hashing.NewSlots(simulatedCost, 1<<20), Logger: slog.New(slog.DiscardHandler),
		MaxAge: 3 * time.Second, Now: now,
	})
	spreading := rand.New(rand.NewPCG(random.Uint64(), 2))
	var mu sync.Mutex
	i.follower = coherence.Start(coherence.Config{
		Store: i.link, Forget: i.verifier.Forget, ForgetAll: i.verifier.ForgetAll, Lease: i.lease, InFlight: i.inFlight,
		Name: i.name, Logger: slog.New(slog.DiscardHandler), Now: now,
		Spread: func(d time.Duration) time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return d*4/5 + time.Duration(spreading.Int64N(int64(d*2/5)+1))
		},
	})
	i.service = &admin.Service{
		Store: i.link, Minter: s.minter, Forget: i.verifier.Forget, Revoker: i.follower.Revoker(), Now: now,
	}
	return i
}

// kill ends the process as kill -9 does: nothing that it has begun is finished.
func (i *instance) kill() {
	i.dead.Store(true)
	i.link.set(func() { i.link.dead = true })
	i.link.cont()
	_ = i.follower.Close() // cannot say goodbye
	i.verifier.Close()
}

// stop ends it in order.
func (i *instance) stop() error {
	i.dead.Store(true)
	err := i.follower.Close()
	i.verifier.Close()
	return err
}

// ask sends a request with the key, and if it is let through streams an answer for
// so long. It notes in the history what the instance lets through, and when.
func (s *simulation) ask(i *instance, key *simulatedKey, stream time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request := coherence.Request{Exchange: cut.New(httptest.NewRecorder(), new(http.Request))}
	_, streamed := request.Exchange.Wrap(nil)
	defer request.Leave()
	_, _, err := i.verifier.Admit(ctx, key.plain, "", &request)
	if i.dead.Load() {
		return
	}
	if err != nil {
		s.history.refused(i, key, err)
		return
	}
	s.history.served(i, key, true)
	for end := time.Now().Add(stream); time.Now().Before(end); {
		time.Sleep(37 * time.Millisecond)
		i.link.gate()
		switch {
		case i.dead.Load():
			return
		case streamed.Context().Err() != nil:
			s.history.cut(i, key, context.Cause(streamed.Context()))
			return
		case i.lease.Lapsed():
			s.history.lapsed()
			return
		}
		s.history.served(i, key, false)
	}
}

// simulatedKey is a key, with what happened to it.
type simulatedKey struct {
	id    store.ID
	plain string
	rev   int64 // from which on its row is there

	// Guarded by the history's lock.
	revoking   time.Time            // the call began; zero: nobody has
	answered   time.Time            // it was answered; zero: not yet
	lastServed time.Time            // after the call began
	gone       map[string]time.Time // by instance: it refused the key as unknown
	narrowed   bool                 // a permission was taken
	rehashed   bool
	restored   bool      // it came back with a backup
	lost       time.Time // a backup without it was restored; zero: it was not
}

func (s *simulation) mint(random *rand.Rand) *simulatedKey {
	var id store.ID
	var secret [32]byte
	for at := range 4 {
		for bit := range 8 {
			secret[8*at+bit] = byte(random.Uint64())
			if at < 2 {
				id[8*at+bit] = byte(random.Uint64())
			}
		}
	}
	key := &simulatedKey{id: id, plain: s.minter.Mint(id, secret), gone: make(map[string]time.Time)}
	hash, err := phc.Hash(key.plain, simulatedCost)
	if err != nil {
		panic(err)
	}
	key.rev = s.database.insert(store.Key{
		ID: id, Hash: store.Hash(hash), Label: "simulated", Permissions: []string{"a:read", "b:read"},
	})
	return key
}

var simulatedMintKey = token.New(store.MintKey{1})
