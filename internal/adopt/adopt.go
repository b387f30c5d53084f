// Package adopt finds the row of a key that another service minted. Such a key does
// not name its row. So a string is looked for in memory, then in the store's index by a
// keyed digest, and then it is tried against every candidate. A candidate is the row of
// another service's key that no string has matched yet.
//
// What is found is a hint, and lets nobody in: the caller reads the row and verifies the
// string against it, as it does for every key. This package does not know the caller.
//
// All work is bounded apart from that for minted keys. If a bound is met, or if it is not
// known yet whose a string is, the answer is a [LaterError] and never [ErrNotFound].
package adopt

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
	"github.com/lumio-vision/caddy-system-keys/internal/lru"
	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/internal/worker"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Bounds of the work, and of what is remembered.
const (
	// MaxCandidates is how many rows a string is tried against. If there are more, no
	// string can be said to be nobody's.
	MaxCandidates = 1000
	// lookupsPerSecond and lookupsAtOnce bound the reads of the index.
	lookupsPerSecond = 100
	lookupsAtOnce    = 2
	// maxUnderWay bounds the strings that are looked for. Of these one is tried against
	// the candidates, and the others of maxSearches wait for that.
	maxUnderWay = 64
	maxSearches = 17
	// maxWaiters bounds the requests that wait, and maxWait for how long each does. The
	// search goes on without them.
	maxWaiters = 256
	maxWait    = 2 * time.Second
	// negativeSize bounds the strings that are known to be nobody's. Each is refused for
	// negativeTTL without another look, so a client that came before its row may have to
	// wait for as long.
	negativeSize = 16384
	negativeTTL  = time.Minute
)

// ErrNotFound says that a string is nobody's key.
var ErrNotFound = errors.New("no key of another service")

// LaterError says that it is not known now whose a string is.
type LaterError struct {
	RetryAfter time.Duration
	Why        string
}

func (e *LaterError) Error() string {
	return "a key that was not minted here cannot be found now: " + e.Why
}

// Match is the row that a string may belong to.
type Match struct {
	ID store.ID
	// Outcome is set in any case, unless the client went away.
	Outcome observe.Outcome
}

// Config is what a [Finder] is made of. All of it is required, and a secret at least.
type Config struct {
	Store store.Adoption
	// Secrets name the strings in the index. The first writes, all are accepted.
	Secrets [][]byte
	// MaxEntries bounds the strings that were found and are remembered.
	MaxEntries int
	// Processors is what the budget of searches depends on.
	Processors int
	Logger     *slog.Logger
	Now        func() time.Time
}

// Finder finds rows. It is safe for concurrent use. A nil Finder knows no string.
type Finder struct {
	config  Config
	eras    [][32]byte // of the secrets
	lookups *rate.Limiter
	share   *hashing.Share // what searches may take of a processor
	reading *semaphore.Weighted
	queue   *semaphore.Weighted // of strings for the slot
	slot    *semaphore.Weighted // for the search that runs
	waiters *semaphore.Weighted
	faults  rate.Sometimes // limits what is logged of the candidates

	counted atomic.Int64 // candidates
	runs    atomic.Uint64

	ctx      context.Context // of the work, which outlives requests
	cancel   context.CancelFunc
	work     sync.WaitGroup
	counting *worker.Worker // counts the candidates, for metrics

	// found is the row that a string was found with, and the hash that the index has the
	// string for. The hash is empty if the index may not have it.
	found *lru.Cache[[32]byte, store.Candidate]

	// mu makes one step of what is decided by several of these. tooMany says that there
	// are more candidates than a string is tried against.
	mu         sync.Mutex
	negative   *lru.Cache[[32]byte, time.Time] // until when there is no need to look again
	candidates []store.Candidate               // of the latest search
	tooMany    bool
	underWay   map[[32]byte]*lookup
}

// New makes a finder, and starts to count candidates.
func New(config Config) *Finder {
	f := &Finder{
		config:   config,
		eras:     token.ForeignEras(config.Secrets),
		lookups:  rate.NewLimiter(lookupsPerSecond, lookupsPerSecond),
		share:    hashing.NewShare(config.Processors),
		reading:  semaphore.NewWeighted(lookupsAtOnce),
		queue:    semaphore.NewWeighted(maxSearches),
		slot:     semaphore.NewWeighted(1),
		waiters:  semaphore.NewWeighted(maxWaiters),
		faults:   rate.Sometimes{First: 1, Interval: time.Minute},
		found:    lru.New[[32]byte, store.Candidate](config.MaxEntries),
		negative: lru.New[[32]byte, time.Time](negativeSize),
		underWay: make(map[[32]byte]*lookup),
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.counting = worker.Start(worker.Work{
		Turn: func(context.Context) error {
			_, _, err := f.unadopted(1)
			return err
		},
		Every: 30 * time.Second,
		Failing: func(err error) {
			config.Logger.Warn("keys of other services cannot be counted", slog.Any("error", err))
		},
	})
	return f
}

// Close ends the work and waits for it.
func (f *Finder) Close() {
	f.mu.Lock()
	f.cancel() // and nothing begins after it
	f.mu.Unlock()
	f.counting.Close()
	f.work.Wait()
}

// Find says which row a string may belong to. Its error is [ErrNotFound], a [LaterError],
// the error of ctx, or what kept it from looking.
//
// If refused is set, that row was found before and has refused the string: it is gone, is
// not another service's any more, or has the hash of another key. Nothing tells a revoked
// key from one that has another row by now, so the string is searched for. What was found
// before is kept, in case the row comes back.
func (f *Finder) Find(ctx context.Context, key string, digest [32]byte, refused store.ID) (Match, error) {
	if row, ok := f.found.Get(digest); ok && row.ID != refused {
		return Match{row.ID, observe.OutcomeMemory}, nil
	}
	l, m, err := f.start(key, digest)
	if l == nil {
		return m, err
	}
	if !f.waiters.TryAcquire(1) {
		return Match{Outcome: observe.OutcomeBusy}, &LaterError{time.Second, "too many wait"}
	}
	defer f.waiters.Release(1)
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case <-l.done:
		return l.match, l.err
	case <-timer.C:
		return Match{Outcome: observe.OutcomeWaiting}, &LaterError{maxWait, "it is searched for"}
	case <-f.ctx.Done():
		return Match{Outcome: observe.OutcomeFailed}, store.ErrClosed
	case <-ctx.Done():
		return Match{}, ctx.Err()
	}
}

// Confirm notes that a string was verified against a row's hash. The index forgets a
// string when another service writes a new hash, so the string is entered anew then.
func (f *Finder) Confirm(ctx context.Context, key string, digest [32]byte, row *store.Key) {
	confirmed := store.Candidate{ID: row.ID, Hash: row.Hash}
	before, _ := f.found.Peek(digest)
	f.remember(digest, confirmed)
	if before != confirmed {
		f.enter(ctx, key, confirmed)
	}
}

// ForgetAll has every string looked for again that was found to be nobody's.
func (f *Finder) ForgetAll() {
	if f != nil {
		f.negative.Purge()
	}
}

// Stats are figures of a finder at a moment.
type Stats struct {
	// Candidates are counted before each search, and twice a minute between searches.
	Candidates int
	// Waiting is how many strings are looked for or wait for it.
	Waiting int
	// Argon2Runs counts the computations of searches.
	Argon2Runs uint64
}

// Stats returns the figures.
func (f *Finder) Stats() Stats {
	if f == nil {
		return Stats{}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return Stats{int(f.counted.Load()), len(f.underWay), f.runs.Load()}
}
