// Package verify turns the text of a system key into an identity.
//
// The order is from the cheapest to the dearest, and each step runs only for
// what the step before let through:
//
//	parse · tag   about half a microsecond; refuses whatever was not minted here
//	memory (L1)   one map read and one comparison in constant time, no lock
//	single flight one lookup per key, however many requests wait for it
//	row ∥ proof   the store says whether the key exists, Redis whether the work
//	              of verifying it against that row's hash was done before
//	Argon2id      in slots bounded by memory, held by the work
//
// A key that another service minted has no tag and does not say whose it is. If
// [Config.Adopt] is set, that finds an id for it, within bounds of its own. The order above
// goes on with the id.
//
// # What is remembered, and what it may decide
//
// Two kinds of memory are kept strictly apart. An L1 entry says that the key
// exists; it is believed for a short time only and is dropped by
// [Verifier.Forget]. A proof says that a key's digest belongs to a stored hash.
// That is the result of a pure function: it can be lost, stale or replayed and
// nothing wrong happens, since the row is read all the same. Proofs in Redis are
// authenticated, so that whoever writes to Redis cannot add one.
package verify

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/lumio-vision/caddy-system-keys/internal/adopt"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/observe"
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

// Lease says what may be trusted at a moment; *[coherence.Lease] does. Want asks
// for a renewal. (It is an interface because only a follower can extend a real lease, and
// tests need one that stands as they say.)
type Lease interface {
	Standing(now time.Time) coherence.Standing
	Want()
}

// Config is what a [Verifier] is made of. Store, Lease, Flights, Minter, Slots and
// Logger are required.
type Config struct {
	Store  Store
	Lease  Lease
	Minter *token.Minter
	Slots  *Slots
	Logger *slog.Logger
	// Uses notes that keys were used, or is nil.
	Uses *usage.Recorder
	// Flights is where the requests that [Verifier.Admit] lets through enter.
	Flights *coherence.Flights

	// Proofs is the shared cache of finished work, or nil for none. It serves
	// only if there is at least one secret.
	Proofs Cache
	// Secrets authenticate the proofs. The first writes, all are accepted.
	Secrets [][]byte

	// Adopt finds the rows of keys that other services have minted. Nil refuses them.
	Adopt *adopt.Finder

	// MaxEntries and MaxBytes bound the memory of verified keys.
	MaxEntries int
	MaxBytes   int64
	// MaxAge is how long a verified key is believed to exist, give or take a
	// tenth, however long the lease holds. It bounds what a fault in the
	// protocol could do. [DefaultMaxAge] by default.
	MaxAge time.Duration

	// Meter is told how long verifications take, or nil for nobody.
	Meter observe.Meter

	// Now is the clock; [time.Now] by default. Its readings must carry the
	// monotonic clock, so that a stepped wall clock prolongs nothing.
	Now func() time.Time
}

// Verifier turns keys into identities. It is safe for concurrent use. Close
// ends its background work.
type Verifier struct {
	config  Config
	l1      *l1
	absent  *absentKeys
	local   *localProofs
	shared  *sharedProofs
	lookups singleflight.Group
	renewer *renewer

	rowReads   atomic.Uint64
	remembered atomic.Uint64  // keys accepted from memory
	unusable   rate.Sometimes // limits what is logged of rows that are broken

	// closing guards fills: none begins after Close began to wait.
	closing sync.Mutex
	closed  bool
	fills   sync.WaitGroup
}

// New makes a verifier, and starts to rehash in the background.
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
	if config.Meter == nil {
		config.Meter = observe.Unmetered{}
	}
	if config.Now == nil {
		config.Now = time.Now //nolint:forbidigo // the default clock
	}
	v := &Verifier{
		config: config,
		l1:     newL1(config.MaxEntries, config.MaxBytes),
		absent: newAbsentKeys(),
		local:  newLocalProofs(config.MaxEntries),
		shared: newSharedProofs(config.Proofs, config.Secrets, config.Logger),

		unusable: rate.Sometimes{First: 1, Interval: time.Second},
	}
	v.renewer = startRenewer(&config, v.local, v.shared)
	return v
}

// Verify returns whose key it is. The error matches [ErrInvalidToken] and is a
// [Reason] if the key is not to be accepted, or is an [*UnavailableError] if
// that could not be found out; nothing else comes back, apart from the error of
// ctx when the caller went away. Neither carries the key.
//
// A key that is remembered costs no allocation, no lock and no input or output.
func (v *Verifier) Verify(ctx context.Context, key string) (*Identity, error) {
	_, identity, err := v.Admit(ctx, key, nil)
	return identity, err
}

// Admit is Verify for a request that can be cut. On success the flight has
// entered, before the last check of the key, and is to be taken out with
// [coherence.Flight.Leave] when the request has ended.
//
// The id is that of the key, whether it is accepted or not: the id that it says, or
// the one under which a key of another service was found. It is zero if there is none.
func (v *Verifier) Admit(ctx context.Context, key string, flight *coherence.Flight) (store.ID, *Identity, error) {
	id, err := v.config.Minter.Parse(key)
	if err != nil {
		return v.adopt(ctx, key, flight)
	}
	identity, err := v.admit(ctx, &presented{id: id, key: key, digest: token.Digest(key), minted: true}, flight)
	return id, identity, err
}

// Forget makes the verifier ask the store for this key at its next use, whether it was
// good or not, and keeps a lookup that is under way from being remembered.
func (v *Verifier) Forget(id store.ID) {
	v.l1.forget(id)
	v.absent.forget(id)
}

// ForgetAll is Forget for every key.
func (v *Verifier) ForgetAll() {
	v.l1.forgetAll()
	v.absent.forgetAll()
	v.config.Adopt.ForgetAll()
}

// Close ends the background work and waits for it and for the lookups that are
// under way. A lookup that comes later is refused as unavailable, with
// [store.ErrClosed].
func (v *Verifier) Close() {
	v.closing.Lock()
	v.closed = true
	v.closing.Unlock()
	v.fills.Wait()
	v.renewer.close()
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
	searches := v.config.Adopt.Stats().Argon2Runs
	return Stats{
		RowReads:   v.rowReads.Load(),
		Argon2Runs: v.config.Slots.Runs() + searches,
		SearchRuns: searches,
		Remembered: v.remembered.Load(),
		Entries:    v.l1.len(),
	}
}
