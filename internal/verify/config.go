package verify

import (
	"context"
	"log/slog"
	"time"

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
