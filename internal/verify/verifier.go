package verify

import (
	"context"
	"crypto/subtle"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/internal/usage"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Defaults of [Config].
const (
	DefaultMaxEntries = 100_000
	DefaultMaxBytes   = 128 << 20
	// DefaultMaxAge is how long a verified key is believed to exist without
	// asking the store again, while the lease holds.
	DefaultMaxAge = 5 * time.Minute
)

// Store is what the verifier asks of a [store.Store].
type Store interface {
	Key(ctx context.Context, id store.ID) (*store.Key, error)
	RehashKey(ctx context.Context, id store.ID, old, renewed store.Hash) error
}

// Uses notes that a key was used; *[usage.Recorder] does.
type Uses interface {
	Touch(mark *usage.Mark, at time.Time)
}

// Lease says what may be trusted at a moment; *[coherence.Lease] does. Want asks
// for a renewal.
type Lease interface {
	Standing(now time.Time) coherence.Standing
	Want()
}

// Config is what a [Verifier] is made of. Store, Lease, Flights, Minter, Slots,
// Uses and Logger are required.
type Config struct {
	Store  Store
	Lease  Lease
	Minter *token.Minter
	Slots  *Slots
	Uses   Uses
	Logger *slog.Logger
	// Flights is where the requests that [Verifier.Admit] lets through enter.
	Flights *coherence.Flights

	// Proofs is the shared cache of finished work, or nil for none. It serves
	// only if there is at least one secret.
	Proofs Proofs
	// Secrets authenticate the proofs, and name the keys of other services. The first
	// writes, all are accepted.
	Secrets [][]byte

	// Foreign is where keys are looked for that other services have minted, or nil to
	// refuse them. It serves only if there is at least one secret.
	Foreign Foreign

	// MaxEntries and MaxBytes bound the memory of verified keys.
	MaxEntries int
	MaxBytes   int64
	// MaxAge is how long a verified key is believed to exist, give or take a
	// tenth, however long the lease holds. It bounds what a fault in the
	// protocol could do. [DefaultMaxAge] by default.
	MaxAge time.Duration

	// allowance bounds the searches for keys of other services; by the processors that
	// there are by default.
	allowance allowance

	// Meter is told how long verifications take, or nil for nobody.
	Meter Meter

	// Now is the clock; [time.Now] by default. Its readings must carry the
	// monotonic clock, so that a stepped wall clock prolongs nothing.
	Now func() time.Time
}

// Verifier turns keys into identities. It is safe for concurrent use. Close
// ends its background work.
type Verifier struct {
	config  Config
	l1      *l1
	known   *known
	gone    *gone
	prover  *prover
	flights singleflight.Group
	renewer *renewer
	adopter *adopter // or nil

	rowReads   atomic.Uint64
	remembered atomic.Uint64  // keys accepted from memory
	unusable   rate.Sometimes // limits what is logged of rows that are broken

	// closing guards fills: none begins after Close began to wait.
	closing sync.Mutex
	closed  bool
	fills   sync.WaitGroup
}

// New makes a verifier. It starts a goroutine for rehashing, and one for searching if
// keys of other services are adopted.
func New(config Config) *Verifier {
	if config.MaxEntries <= 0 {
		config.MaxEntries = DefaultMaxEntries
	}
	if config.MaxBytes <= 0 {
		config.MaxBytes = DefaultMaxBytes
	}
	if config.MaxAge <= 0 {
		config.MaxAge = DefaultMaxAge
	}
	if config.allowance == (allowance{}) {
		config.allowance = allowanceOf(runtime.GOMAXPROCS(0))
	}
	if config.Meter == nil {
		config.Meter = unmetered{}
	}
	if config.Now == nil {
		config.Now = time.Now //nolint:forbidigo // the default clock
	}
	v := &Verifier{
		config: config,
		l1:     newL1(config.MaxEntries, config.MaxBytes),
		known:  newKnown(config.MaxEntries),
		gone:   newGone(),
		prover: newProver(config.Proofs, config.Secrets, config.Logger),

		unusable: rate.Sometimes{First: 1, Interval: time.Second},
	}
	v.renewer = startRenewer(v)
	v.adopter = startAdopter(v)
	return v
}

// Verify returns whose key it is. The error matches [ErrInvalidToken] and is a
// [Reason] if the key is not to be accepted, or is an [*UnavailableError] if
// that could not be found out; nothing else comes back, apart from the error of
// ctx when the caller went away. Neither carries the key.
//
// A key that is remembered costs no allocation, no lock and no input or output.
func (v *Verifier) Verify(ctx context.Context, key string) (*Identity, error) {
	return v.Admit(ctx, key, nil)
}

// Admit is Verify for a request that can be cut. On success the flight has
// entered, before the last check of the key, and is to be taken out with
// [coherence.Flight.Leave] when the request has ended.
func (v *Verifier) Admit(ctx context.Context, key string, flight *coherence.Flight) (*Identity, error) {
	id, err := v.config.Minter.Parse(key)
	if err != nil {
		return v.adopt(ctx, key, flight)
	}
	return v.admit(ctx, id, key, token.Digest(key), flight)
}

// admit is Admit for a key that is known by this id, if it is known at all.
func (v *Verifier) admit(
	ctx context.Context, id store.ID, key string, digest [32]byte, flight *coherence.Flight,
) (*Identity, error) {
	began := v.sample()
	if identity, now, err := v.recall(id, &digest, flight); identity != nil || err != nil {
		if err == nil {
			v.recalled(began, now)
		}
		return identity, err
	}
	if reason, ok := v.gone.why(id, v.config.Now()); ok {
		return nil, reason
	}
	return v.lookUp(ctx, id, key, digest, flight)
}

// recall accepts a key that is remembered, if memory may be trusted now, and says
// when that was. It returns nothing if the store is to be asked.
//
// The flight enters first, and then the entry is looked at once more: a
// revocation drops the entry and then cuts the flights, so that one of the two
// meets the other. The clock is read after that, so that a process that was
// paused here does not go by the lease that it had before.
func (v *Verifier) recall(
	id store.ID, digest *[32]byte, flight *coherence.Flight,
) (_ *Identity, now time.Time, _ error) {
	s, e := v.l1.get(id)
	if e == nil || subtle.ConstantTimeCompare(e.digest[:], digest[:]) != 1 {
		return nil, now, nil
	}
	if flight != nil {
		v.config.Flights.Enter(flight, e.claim)
	}
	now = v.config.Now()
	if !v.l1.holds(s, e) || !now.Before(e.until) || v.config.Lease.Standing(now) != coherence.Cached {
		flight.Leave()
		return nil, now, nil
	}
	if e.identity.expired(now) {
		flight.Leave()
		return nil, now, ReasonExpired
	}
	v.config.Uses.Touch(s.mark, now)
	return e.identity, now, nil
}

// Forget makes the verifier ask the store for this key at its next use, whether it was
// good or not, and keeps a lookup that is under way from being remembered.
func (v *Verifier) Forget(id store.ID) {
	v.l1.forget(id)
	v.gone.forget(id)
	v.adopter.forget(id)
}

// ForgetAll is Forget for every key.
func (v *Verifier) ForgetAll() {
	v.l1.forgetAll()
	v.gone.forgetAll()
	v.adopter.forgetAll()
}

// Close ends the background work and waits for it and for the lookups that are
// under way. A lookup that comes later is refused as unavailable, with
// [store.ErrClosed].
func (v *Verifier) Close() {
	v.closing.Lock()
	v.closed = true
	v.closing.Unlock()
	v.adopter.close()
	v.fills.Wait()
	v.renewer.close()
}

// begin reports whether a lookup may start; fills.Done ends it.
func (v *Verifier) begin() bool {
	v.closing.Lock()
	defer v.closing.Unlock()
	if !v.closed {
		v.fills.Add(1)
	}
	return !v.closed
}

// Stats are counters since the verifier was made.
type Stats struct {
	// RowReads counts the reads of a row from the store.
	RowReads uint64
	// Argon2Runs counts Argon2id computations of all kinds.
	Argon2Runs uint64
	// SearchRuns counts those of them that searches for keys of other services made.
	SearchRuns uint64
	// Remembered counts keys that were accepted from memory.
	Remembered uint64
	// Entries is the number of keys in memory now.
	Entries int
}

// Stats returns the counters.
func (v *Verifier) Stats() Stats {
	return Stats{
		RowReads:   v.rowReads.Load(),
		Argon2Runs: v.config.Slots.Runs() + v.adopter.runs(),
		SearchRuns: v.adopter.runs(),
		Remembered: v.remembered.Load(),
		Entries:    v.l1.len(),
	}
}
