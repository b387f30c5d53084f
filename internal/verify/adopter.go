package verify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Bounds of the adoption of keys. All are apart from those of minted keys.
const (
	// MaxCandidates is how many rows a string is tried against. Where there are more
	// none can be said to be nobody's.
	MaxCandidates = 1000
	// unknownSize bounds the strings that are known to be nobody's key.
	unknownSize = 16384
	// lookupsPerSecond and lookupsAtOnce bound the reads of the index.
	lookupsPerSecond = 100
	lookupsAtOnce    = 2
	// maxUnderWay bounds the strings that are looked for, maxSearches those that wait
	// to be tried against the candidates, one after another.
	maxUnderWay = 64
	maxSearches = 16
	// maxWaiters bounds the requests that wait, and findWait for how long. The search
	// goes on without them.
	maxWaiters = 256
	findWait   = 2 * time.Second
)

// Foreign finds keys of other services; a [store.Store] does. See [store.Adoption].
type Foreign interface {
	Adopted(ctx context.Context, digests [][32]byte) (store.Candidate, error)
	Adopt(ctx context.Context, key *store.AdoptedKey) error
	Unadopted(ctx context.Context, eras [][32]byte, now time.Time, limit int) ([]store.Candidate, int, error)
}

// adopter finds out under which id a string may be known that this system did not
// mint. It never says that a key is good.
type adopter struct {
	v       *Verifier
	foreign Foreign
	names   pseudonyms
	eras    [][32]byte

	// found are hints, by [token.Digest]; unknown are strings that none was found for,
	// and ended says which of them was the key of a row once.
	found   *lru.Cache[[32]byte, store.ID]
	unknown *lru.Cache[[32]byte, unfound]
	ended   *lru.Cache[store.ID, [32]byte]

	lookups *rate.Limiter
	reading *semaphore.Weighted
	slot    *Slots // of its own, and one
	spent   *spending
	queue   chan *search

	candidates atomic.Int64
	grown      atomic.Uint64 // how often there were more than before
	waiters    atomic.Int64
	unusable   *lru.Cache[store.ID, time.Time] // when the log was told of it
	crowded    rate.Sometimes

	ctx    context.Context // of the work, which outlives requests
	cancel context.CancelFunc
	work   sync.WaitGroup

	// mu guards under, that no work begins after the end, and what is decided by found
	// and unknown together.
	mu    sync.Mutex
	under map[[32]byte]*search
}

// startAdopter returns nil if there is nothing to adopt from, or no secret to name
// keys with.
func startAdopter(v *Verifier) *adopter {
	c := &v.config
	if c.Foreign == nil || len(c.Secrets) == 0 {
		return nil
	}
	found, err := lru.New[[32]byte, store.ID](c.MaxEntries)
	unknown, err2 := lru.New[[32]byte, unfound](unknownSize)
	ended, err3 := lru.New[store.ID, [32]byte](unknownSize)
	unusable, err4 := lru.New[store.ID, time.Time](MaxCandidates)
	if err := errors.Join(err, err2, err3, err4); err != nil { // the sizes are positive
		panic(err)
	}
	a := &adopter{
		v: v, foreign: c.Foreign, names: newPseudonyms(c.Secrets),
		found: found, unknown: unknown, ended: ended,
		lookups: rate.NewLimiter(lookupsPerSecond, lookupsPerSecond),
		reading: semaphore.NewWeighted(lookupsAtOnce),
		slot:    newSlots(c.Slots.Params(), 1),
		spent:   newSpending(c.allowance, c.Now),
		queue:   make(chan *search, maxSearches),
		under:   make(map[[32]byte]*search),

		unusable: unusable,
		crowded:  rate.Sometimes{First: 1, Interval: time.Minute},
	}
	a.eras = a.names.eras()
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.work.Go(a.run)
	return a
}

// locate says whose key a string may be: what is remembered, or what is found. The
// outcome is empty if the client went away.
func (a *adopter) locate(ctx context.Context, key string, digest [32]byte) (store.ID, Outcome, error) {
	if id, ok := a.found.Get(digest); ok {
		return id, OutcomeMemory, nil
	}
	return a.find(ctx, key, digest)
}

// find looks for a string, together with all requests that bring the same one.
func (a *adopter) find(ctx context.Context, key string, digest [32]byte) (store.ID, Outcome, error) {
	now := a.v.config.Now()
	switch u, ok := a.unknown.Get(digest); {
	case ok && u.ended() && !now.Before(u.look):
		return u.id, OutcomeMemory, nil
	case ok && now.Before(u.until):
		return store.ID{}, u.outcome, u.err
	}
	if a.v.config.Lease.Standing(now) == coherence.None {
		a.v.config.Lease.Want()
		return store.ID{}, OutcomeFailed, unavailable(ErrNoLease)
	}
	defer a.waiters.Add(-1)
	if a.waiters.Add(1) > maxWaiters {
		return store.ID{}, OutcomeBusy, adopting(time.Second, "too many wait")
	}
	s, err := a.begin(key, digest, now)
	if err != nil {
		return store.ID{}, OutcomeBusy, err
	}
	patience := time.NewTimer(findWait)
	defer patience.Stop()
	select {
	case <-s.done:
		return s.id, s.outcome, s.err
	case <-patience.C:
		return store.ID{}, OutcomeWaiting, adopting(findWait, "it is searched for")
	case <-a.ctx.Done():
		return store.ID{}, OutcomeFailed, unavailable(store.ErrClosed)
	case <-ctx.Done():
		return store.ID{}, "", ctx.Err()
	}
}

// begin joins the search for a string, or starts it.
func (a *adopter) begin(key string, digest [32]byte, now time.Time) (*search, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.under[digest]; s != nil {
		return s, nil
	}
	switch {
	case a.ctx.Err() != nil:
		return nil, unavailable(store.ErrClosed)
	case len(a.under) >= maxUnderWay, !a.lookups.AllowN(now, 1):
		return nil, adopting(time.Second, "too many strings that were not minted here")
	}
	s := &search{key: key, digest: digest, done: make(chan struct{})}
	a.under[digest] = s
	a.work.Go(func() { a.lookUp(s) })
	return s, nil
}

func (a *adopter) stats() AdoptionStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	return AdoptionStats{Candidates: int(a.candidates.Load()), Waiting: len(a.under), Argon2Runs: a.slot.Runs()}
}

// runs counts the Argon2id computations of searches.
func (a *adopter) runs() uint64 {
	if a == nil {
		return 0
	}
	return a.slot.Runs()
}

// close ends the work and waits for it.
func (a *adopter) close() {
	if a == nil {
		return
	}
	a.mu.Lock()
	a.cancel()
	a.mu.Unlock()
	a.work.Wait()
}

func adopting(retryAfter time.Duration, why string) *UnavailableError {
	return &UnavailableError{RetryAfter: retryAfter, Err: fmt.Errorf("%w: %s", ErrAdopting, why)}
}
