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

	// found are hints, by [token.Digest]; unknown are strings that none was found for.
	found   *lru.Cache[[32]byte, store.ID]
	unknown *lru.Cache[[32]byte, unfound]

	lookups *rate.Limiter
	reading *semaphore.Weighted
	slot    *Slots // of its own, and one
	spent   *spending
	queue   chan *search

	candidates atomic.Int64
	waiters    atomic.Int64
	unusable   rate.Sometimes
	crowded    rate.Sometimes

	ctx    context.Context // of the work, which outlives requests
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu    sync.Mutex // guards under, and that no work begins after the end
	under map[[32]byte]*search
}

// unfound says what becomes of a string, and until when.
type unfound struct {
	err     error
	outcome Outcome
	id      store.ID // that it was known by once, or zero
	until   time.Time
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
	if err := errors.Join(err, err2); err != nil { // the sizes are positive
		panic(err)
	}
	a := &adopter{
		v: v, foreign: c.Foreign, names: newPseudonyms(c.Secrets),
		found: found, unknown: unknown,
		lookups: rate.NewLimiter(lookupsPerSecond, lookupsPerSecond),
		reading: semaphore.NewWeighted(lookupsAtOnce),
		slot:    newSlots(c.Slots.Params(), 1),
		spent:   newSpending(c.allowance, c.Now),
		queue:   make(chan *search, maxSearches),
		under:   make(map[[32]byte]*search),

		unusable: rate.Sometimes{First: 1, Interval: time.Minute},
		crowded:  rate.Sometimes{First: 1, Interval: time.Minute},
	}
	a.eras = a.names.eras()
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.work.Go(a.run)
	return a
}

// find looks for a string, together with all requests that bring the same one. The
// outcome is empty if the client went away.
func (a *adopter) find(ctx context.Context, key string, digest [32]byte) (store.ID, Outcome, error) {
	now := a.v.config.Now()
	if u, ok := a.unknown.Get(digest); ok && now.Before(u.until) {
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

// dismiss forgets a hint that led nowhere: its row is gone, is not foreign any more,
// or has the hash of another key. The string is refused for a while, at once; should
// there be another row for it, it is found meanwhile.
func (a *adopter) dismiss(key string, digest [32]byte, id store.ID, reason Reason) {
	now := a.v.config.Now()
	a.found.Remove(digest)
	a.unknown.Add(digest, unfound{err: reason, outcome: OutcomeNone, id: id, until: now.Add(endedTTL)})
	_, _ = a.begin(key, digest, now) // if it cannot be looked for it is refused for so long
}

func (a *adopter) whose(digest [32]byte) (store.ID, bool) {
	if id, ok := a.found.Peek(digest); ok {
		return id, true
	}
	u, ok := a.unknown.Peek(digest)
	return u.id, ok && u.id != store.ID{}
}

// forgetAll has every string looked for again that was found to be nobody's.
func (a *adopter) forgetAll() {
	if a != nil {
		a.unknown.Purge()
	}
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
