package verify

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/internal/usage"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Defaults of [Config].
const (
	DefaultMaxEntries = 100_000
	DefaultMaxBytes   = 128 << 20
	// MaxTrust is how long a verified key is believed to exist without asking
	// the store again.
	MaxTrust = time.Second
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

// Config is what a [Verifier] is made of. Store, Minter, Slots, Uses and Logger
// are required.
type Config struct {
	Store  Store
	Minter *token.Minter
	Slots  *Slots
	Uses   Uses
	Logger *slog.Logger

	// Proofs is the shared cache of finished work, or nil for none. It serves
	// only if there is at least one secret.
	Proofs Proofs
	// Secrets authenticate the proofs. The first writes, all are accepted.
	Secrets [][]byte

	// MaxEntries and MaxBytes bound the memory of verified keys.
	MaxEntries int
	MaxBytes   int64
	// Trust is how long a verified key is believed to exist; at most, and by
	// default, [MaxTrust].
	Trust time.Duration

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

	rowReads atomic.Uint64
	unusable rate.Sometimes // limits what is logged of rows that are broken

	// closing guards fills: none begins after Close began to wait.
	closing sync.Mutex
	closed  bool
	fills   sync.WaitGroup
}

// New makes a verifier. It starts one goroutine, for rehashing.
func New(config Config) *Verifier {
	if config.MaxEntries <= 0 {
		config.MaxEntries = DefaultMaxEntries
	}
	if config.MaxBytes <= 0 {
		config.MaxBytes = DefaultMaxBytes
	}
	if config.Trust <= 0 || config.Trust > MaxTrust {
		config.Trust = MaxTrust
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
	return v
}

// Verify returns whose key it is. The error matches [ErrInvalidToken] and is a
// [Reason] if the key is not to be accepted, or is an [*UnavailableError] if
// that could not be found out; nothing else comes back, apart from the error of
// ctx when the caller went away. Neither carries the key.
//
// A key that was verified less than [Config.Trust] ago costs no allocation, no
// lock and no input or output.
func (v *Verifier) Verify(ctx context.Context, key string) (*Identity, error) {
	id, err := v.config.Minter.Parse(key)
	if err != nil {
		return nil, ReasonUnminted
	}
	digest := token.Digest(key)
	now := v.config.Now()
	if s, e := v.l1.get(id); e != nil && now.Before(e.until) &&
		subtle.ConstantTimeCompare(e.digest[:], digest[:]) == 1 {
		return v.accept(s, e, now)
	}
	return v.lookUp(ctx, id, key, digest)
}

// Forget makes the verifier ask the store for this key at its next use, and
// keeps a lookup that is under way from being remembered.
func (v *Verifier) Forget(id store.ID) {
	v.l1.forget(id)
	v.gone.forget(id)
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
	// Entries is the number of keys in memory now.
	Entries int
}

// Stats returns the counters.
func (v *Verifier) Stats() Stats {
	return Stats{
		RowReads:   v.rowReads.Load(),
		Argon2Runs: v.config.Slots.Runs(),
		Entries:    v.l1.len(),
	}
}

func (v *Verifier) accept(s *slot, e *entry, now time.Time) (*Identity, error) {
	identity := e.identity
	if !identity.ExpiresAt.IsZero() && !now.Before(identity.ExpiresAt) {
		return nil, ReasonExpired
	}
	v.config.Uses.Touch(s.mark, now)
	return identity, nil
}

// attempts is how often a lookup starts over because the key was changed while
// it was read.
const attempts = 3

var errChanging = errors.New("the key changed while it was read")

// lookUp asks the store, once for all requests that wait for this key. The
// flight is shared by requests with the same whole key only, and what it found
// is taken only if the key was not forgotten since: a request that joins a
// flight whose row was read before a revocation must not profit from it.
func (v *Verifier) lookUp(ctx context.Context, id store.ID, key string, digest [32]byte) (*Identity, error) {
	if reason, ok := v.gone.why(id, v.config.Now()); ok {
		return nil, reason
	}
	for range attempts {
		asked := v.config.Now()
		flight := v.flights.DoChan(string(digest[:]), func() (any, error) {
			if !v.begin() {
				return nil, unavailable(store.ErrClosed)
			}
			defer v.fills.Done()
			// The work outlives the request that started it: others wait for it,
			// and pgx would close the connection of a cancelled statement.
			return nil, v.fill(context.WithoutCancel(ctx), id, key, digest)
		})
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case result := <-flight:
			if result.Err != nil {
				return nil, result.Err
			}
		}
		// Judged by when this request asked, not by how long the answer took: a
		// slow store must not make a good answer look old.
		if s, e := v.l1.get(id); e != nil && asked.Before(e.until) &&
			subtle.ConstantTimeCompare(e.digest[:], digest[:]) == 1 {
			return v.accept(s, e, v.config.Now())
		}
	}
	return nil, unavailable(errChanging)
}
