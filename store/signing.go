package store

import (
	"context"
	"time"
)

// SigningKey is the public half of a key that an instance signs with. The private
// half never leaves the instance.
type SigningKey struct {
	// ID names the key: the thumbprint of RFC 7638, so that no two keys share one.
	ID string
	// Public is an Ed25519 public key (RFC 8032 section 5.1.5).
	Public [32]byte
	// ExpiresAt is when others may forget it, by the store's clock.
	ExpiresAt time.Time
}

// SigningKeys is the part of a [Store] that tells all instances whose signatures
// are good.
type SigningKeys interface {
	// PublishSigningKey enters a key that is live for so long from now on, by the
	// store's own clock, or sets anew how long it still is: longer or shorter. A
	// life of zero or less ends it. When it returns nil the key is durable, and
	// whoever asks later is told of it. [ErrConflict] if the id is that of another
	// public key. Keys that have expired are removed on the way.
	PublishSigningKey(ctx context.Context, key SigningKey, life time.Duration) error

	// SigningKeys returns the keys that are live, in the order of their ids, as the
	// primary has them now. A standby's word is not taken: [ErrStandby].
	SigningKeys(ctx context.Context) ([]SigningKey, error)
}
