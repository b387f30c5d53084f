// Package adopt finds the row of a key that another service minted. Such a key does
// not name its row. So a string is looked for in memory, then in the store's index by a
// keyed digest, and then it is tried against every candidate. A candidate is the row of
// another service's key that no string has matched yet.
//
// What is found is a hint, and lets nobody in: the caller reads the row and verifies the
// string against it, as it does for every key. This package does not know the caller.
//
// All work is bounded apart from that for minted keys. If a bound is met, or if it is not
// known yet whose a string is, the answer is [ErrLater] and never [ErrNotFound].
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

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/lru"
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
	// the candidates, and maxSearches wait for that.
	maxUnderWay = 64
	maxSearches = 16
	// maxWaiters bounds the requests that wait, and maxWait for how long each does. The
	// search goes on without them.
	maxWaiters = 256
	maxWait    = 2 * time.Second
	// nobodySize bounds the strings that are known to be nobody's. Each is refused for
	// nobodyTTL without another look, so a client that came before its row may have to
	// wait for as long.
	nobodySize = 16384
	nobodyTTL  = time.Minute
	// movedGrace is for how long a key is refused at once after its row refused it. From
	// then on its requests wait for the search.
	movedGrace = time.Second
)

var (
	// ErrNotFound says that a string is nobody's key.
	ErrNotFound = errors.New("no key of another service")
	// ErrLater matches every [LaterError].
	ErrLater = errors.New("a key that was not minted here cannot be found now")
)

// LaterError says that it is not known now whose a string is.
type LaterError struct {
	RetryAfter time.Duration
	Why        string
}

func (e *LaterError) Error() string { return ErrLater.Error() + ": " + e.Why }

// Is makes every LaterError match [ErrLater].
func (*LaterError) Is(target error) bool { return target == ErrLater }

// Outcome is where the row of a string was found, or why it was not: nobody has the
// string, it is searched for still, a bound was met, or the store did not answer.
type Outcome string

// The outcomes, of one request each.
const (
	OutcomeMemory  Outcome = "memory"
	OutcomeIndex   Outcome = "index"
	OutcomeSearch  Outcome = "search"
	OutcomeNone    Outcome = "none"
	OutcomeWaiting Outcome = "waiting"
	OutcomeBusy    Outcome = "busy"
	OutcomeFailed  Outcome = "failed"
)

// Outcomes are all of them.
func Outcomes() []Outcome {
	return []Outcome{OutcomeMemory, OutcomeIndex, OutcomeSearch, OutcomeNone, OutcomeWaiting, OutcomeBusy, OutcomeFailed}
}

// Match is the row that a string may belong to.
type Match struct {
	ID store.ID
	// Computed is the [coherence.Fingerprint] of a hash that the string was verified
	// against in this process, or zero.
	Computed [32]byte
	// Outcome is set in any case, unless the client went away.
	Outcome Outcome
}

// hint is what is remembered of a string that was found.
type hint struct {
	Match
	// entered is the fingerprint of the hash that the index has the string for.
	entered [32]byte
	// refused is since when the row refuses the string; zero while it accepts it.
	refused time.Time
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
	reading *semaphore.Weighted

	// slot is for the search that runs. The fields below it belong to that search.
	slot   *semaphore.Weighted
	budget *rate.Limiter // of microseconds
	seen   []store.Candidate
	faults rate.Sometimes // limits what is logged of the candidates

	candidates, searches, requests atomic.Int64
	runs                           atomic.Uint64

	ctx    context.Context // of the work, which outlives requests
	cancel context.CancelFunc
	work   sync.WaitGroup

	counting *worker.Worker // counts the candidates, for metrics

	// mu makes one step of what is decided by several of these. crowded says that there
	// are more candidates than a string is tried against.
	mu       sync.Mutex
	found    *lru.Cache[[32]byte, hint]
	nobody   *lru.Cache[[32]byte, time.Time] // until when there is no need to look again
	crowded  bool
	underWay map[[32]byte]*search
}

// New makes a finder, and starts to count candidates.
func New(config Config) *Finder {
	f := &Finder{
		config:  config,
		eras:    eras(config.Secrets),
		lookups: rate.NewLimiter(lookupsPerSecond, lookupsPerSecond),
		reading: semaphore.NewWeighted(lookupsAtOnce),
		slot:    semaphore.NewWeighted(1),
		budget:  newBudget(config.Processors),
		faults:  rate.Sometimes{First: 1, Interval: time.Minute},
		found:   lru.New[[32]byte, hint](config.MaxEntries),
		nobody:  lru.New[[32]byte, time.Time](nobodySize),

		underWay: make(map[[32]byte]*search),
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
// not another service's any more, or has the hash of another key. The string may belong
// to another row by now. Nothing tells a moved key from a revoked one, and most were
// revoked: so for a moment the string is said to be nobody's while it is searched for. The
// hint stays, in case the row comes back.
func (f *Finder) Find(ctx context.Context, key string, digest [32]byte, refused store.ID) (Match, error) {
	if m, ok := f.Known(digest); ok && m.ID != refused {
		return m, nil
	}
	now := f.config.Now()
	f.mu.Lock()
	until, searched := f.nobody.Get(digest)
	answer, err := f.nothing()
	h, _ := f.found.Peek(digest)
	first := refused != store.ID{} && h.refused.IsZero()
	if first {
		h = hint{Match: Match{ID: refused}, refused: now}
		f.found.Add(digest, h)
	}
	f.mu.Unlock()
	switch {
	case searched && now.Before(until):
		return answer, err
	case first:
		f.start(key, digest) // a later request tries again, if that comes to nothing
		return Match{Outcome: OutcomeNone}, ErrNotFound
	case refused != store.ID{} && now.Sub(h.refused) < movedGrace:
		return Match{Outcome: OutcomeNone}, ErrNotFound
	}
	return f.wait(ctx, f.start(key, digest))
}

// Known returns what was found for a string lately, by the digest that memory goes by. It
// is the row that the string belongs to, or did.
func (f *Finder) Known(digest [32]byte) (Match, bool) {
	if f == nil {
		return Match{}, false
	}
	h, ok := f.found.Get(digest)
	h.Outcome = OutcomeMemory
	return h.Match, ok
}

// Confirm notes that a string was verified against a row's hash. The index forgets a
// string when another service writes a new hash, so the string is entered anew then.
func (f *Finder) Confirm(ctx context.Context, key string, digest [32]byte, row *store.Key) {
	fingerprint := coherence.Fingerprint(row.Hash)
	f.mu.Lock()
	before, _ := f.found.Peek(digest)
	f.found.Add(digest, hint{Match: Match{ID: row.ID, Computed: fingerprint}, entered: fingerprint})
	f.nobody.Remove(digest)
	f.mu.Unlock()
	if before.ID != row.ID || before.entered != fingerprint {
		f.enter(ctx, row.ID, row.Hash, key)
	}
}

// ForgetAll has every string looked for again that was found to be nobody's.
func (f *Finder) ForgetAll() {
	if f != nil {
		f.nobody.Purge()
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
	return Stats{int(f.candidates.Load()), len(f.underWay), f.runs.Load()}
}
