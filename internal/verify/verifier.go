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
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Verifier turns keys into identities. It is safe for concurrent use. Close
// ends its background work.
type Verifier struct {
	config    Config
	l1        *l1
	negatives *negativeCache
	local     *localProofs
	shared    *sharedProofs
	lookups   singleflight.Group
	renewer   *renewer

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
		config:    config,
		l1:        newL1(config.MaxEntries, config.MaxBytes),
		negatives: newNegativeCache(),
		local:     newLocalProofs(config.MaxEntries),
		shared:    newSharedProofs(config.Proofs, config.Secrets, config.Logger),

		unusable: rate.Sometimes{First: 1, Interval: time.Second},
	}
	v.renewer = startRenewer(&config, v.local, v.shared)
	return v
}

// Forget makes the verifier ask the store for this key at its next use, whether it was
// good or not, and keeps a lookup that is under way from being remembered.
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
