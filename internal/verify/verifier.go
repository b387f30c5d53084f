// Package verify turns the text of a system key into an identity.
//
// The steps are ordered by their cost, the cheapest first. A step runs only for a key that
// the step before could not decide:
//
//	parse · tag   about half a microsecond; refuses every string that was not minted here
//	memory (L1)   one map read and one comparison in constant time, no lock
//	single flight one lookup per key, however many requests wait for it
//	row ∥ proof   the store says whether the key exists; Redis says whether the key was
//	              verified against that row's hash before
//	Argon2id      in slots bounded by memory, held by the work
//
// A key that another service minted has no tag, and does not name its row. [Config.Adopt]
// finds an id for such a key, within bounds of its own. The steps go on with that id.
//
// # What is remembered, and what it may decide
//
// Two kinds of memory are kept strictly apart. An L1 entry says that the key exists. It is
// believed for a short time only, and [Verifier.Forget] drops it. A proof says that a key's
// digest belongs to a stored hash. It is the result of a pure function. If it is lost, stale
// or replayed, nothing wrong happens, because the row is read all the same. Proofs in Redis
// are authenticated, so nobody can add a proof by writing to Redis.
package verify

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Verifier turns keys into identities. It is safe for concurrent use. [Verifier.Close] ends
// its background work.
type Verifier struct {
	config    Config
	l1        *l1
	negatives *negativeCache
	local     *localProofs
	shared    *sharedProofs
	lookups   singleflight.Group
	renewer   *renewer

	rowReads   atomic.Uint64
	remembered atomic.Uint64  // keys that were accepted from memory
	unusable   rate.Sometimes // limits the log messages about unusable hashes

	// closing guards fills: no lookup begins after Close has begun to wait.
	closing sync.Mutex
	closed  bool
	fills   sync.WaitGroup
}

// New makes a verifier. It starts a goroutine that replaces weak hashes.
func New(config Config) *Verifier {
	config.MaxEntries = cmp.Or(config.MaxEntries, DefaultMaxEntries)
	config.MaxBytes = cmp.Or(config.MaxBytes, DefaultMaxBytes)
	config.MaxAge = cmp.Or(config.MaxAge, DefaultMaxAge)
	config.Meter = cmp.Or[observe.Meter](config.Meter, observe.Unmetered{})
	if config.Now == nil {
		config.Now = time.Now //nolint:forbidigo // the default clock
	}
	v := &Verifier{
		config:    config,
		l1:        newL1(config.MaxEntries, config.MaxBytes, config.Uses),
		negatives: newNegativeCache(),
		local:     newLocalProofs(config.mostKeys()),
		shared:    newSharedProofs(config.Proofs, config.Secrets, config.Logger),
		unusable:  rate.Sometimes{First: 1, Interval: time.Second},
	}
	v.renewer = startRenewer(&config, v.keep)
	return v
}

// keep keeps a proof in both caches.
func (v *Verifier) keep(ctx context.Context, id store.ID, fingerprint, digest [32]byte) {
	v.local.keep(id, fingerprint, digest)
	v.shared.keep(ctx, id, fingerprint, digest)
}

// Forget makes the next use of this key read the store again, whether the key was good or
// not. A lookup that is under way is not remembered.
func (v *Verifier) Forget(id store.ID) {
	v.l1.forget(id)
	v.negatives.forget(id)
}

// ForgetAll is Forget for every key.
func (v *Verifier) ForgetAll() {
	v.l1.forgetAll()
	v.negatives.forgetAll()
	v.config.Adopt.ForgetAll()
}

// Close ends the background work. It waits for that work, and for the lookups that are under
// way. A later lookup fails as unavailable, with [store.ErrClosed].
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
	// SearchRuns counts the computations of searches for keys of other services.
	SearchRuns uint64
	// Remembered counts requests that were accepted from memory.
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
