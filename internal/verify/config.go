package verify

import (
	"context"
	"log/slog"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/adopt"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/internal/usage"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Defaults of [Config].
const (
	DefaultMaxEntries = 100_000
	DefaultMaxBytes   = 128 << 20
	// DefaultMaxAge is how long a verified key is believed to exist before the store is
	// asked again, while the lease is in force.
	DefaultMaxAge = 5 * time.Minute
)

// Store is the part of a [store.Store] that the verifier uses.
type Store interface {
	Key(ctx context.Context, id store.ID) (*store.Key, error)
	RehashKey(ctx context.Context, id store.ID, old, renewed store.Hash) error
}

// Lease says what may be trusted at a moment. Want asks for a renewal. Unfollowed says that
// imported keys may not be accepted. The implementation is
// [coherence.Lease]. It is an interface because only a follower can extend a real lease, and
// tests set the state of a lease themselves.
type Lease interface {
	State(now time.Time) coherence.LeaseState
	Want()
	Unfollowed() bool
}

// Config is the configuration of a [Verifier]. Store, Lease, InFlight, Minter, Slots and
// Logger are required.
type Config struct {
	Store  Store
	Lease  Lease
	Minter *token.Minter
	Slots  *hashing.Slots
	Logger *slog.Logger
	// Uses records when keys were used, unless it is nil.
	Uses *usage.Recorder
	// InFlight is the registry that requests enter when [Verifier.Admit] lets them through.
	InFlight *coherence.InFlight

	// Proofs is the proof cache that instances share, or nil for none. It is used only if
	// there is at least one secret.
	Proofs Cache
	// Secrets authenticate the proofs. New proofs are written under the first secret.
	// Proofs under any of the secrets are accepted.
	Secrets [][]byte

	// Adopt finds the rows of keys that other services have minted. Nil refuses them.
	Adopt *adopt.Finder

	// MaxEntries and MaxBytes bound the memory of verified keys.
	MaxEntries int
	MaxBytes   int64
	// MaxAge is how long a verified key is believed to exist, give or take a tenth, however
	// long the lease is in force. It bounds the damage of a fault in the protocol.
	// [DefaultMaxAge] by default.
	MaxAge time.Duration

	// Meter is told how long verifications take, unless it is nil.
	Meter observe.Meter

	// Now is the clock, [time.Now] by default. Its readings must carry the monotonic
	// clock, so that a wall clock that is set back prolongs nothing.
	Now func() time.Time
}

// mostKeys is how many keys fit into the memory if each is as small as can be.
func (c *Config) mostKeys() int {
	return max(1, int(min(int64(c.MaxEntries), c.MaxBytes/entryOverhead)))
}
