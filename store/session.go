package store

import (
	"context"
	"time"
)

// Session is a browser that an admin has signed in with a key.
type Session struct {
	// Digest is the SHA-256 of the session's token, which is kept nowhere.
	Digest    [32]byte
	Key       ID
	ExpiresAt time.Time
}

// Sessions is the part of a [Store] that keeps the sessions of the System page.
//
// A session ends in the transaction in which its key ends, whoever ends it: by a
// deletion, by another hash than [Store.RehashKey] gives, or by TRUNCATE. A key
// that comes back with the same id does not bring its sessions back.
type Sessions interface {
	// CreateSession keeps a session. [ErrActorGone] if its key is not there, which
	// is looked at in the same transaction, so that a key that is revoked meanwhile
	// leaves no session; [ErrConflict] if the digest is taken.
	CreateSession(ctx context.Context, session *Session) error

	// Session returns the key of a session as the primary has it now, without its
	// hash; a standby's word is not taken: [ErrStandby]. [ErrNotFound] if there is
	// no such session, or if it is over at now: a session is live up to and not
	// including its expiry. Whether the key has expired is for the caller to judge.
	Session(ctx context.Context, digest [32]byte, now time.Time) (*Key, error)

	// EndSession ends a session at once, and durably. None is not an error.
	EndSession(ctx context.Context, digest [32]byte) error

	// SpendNonce notes, durably, that a nonce was used that is good for once, until
	// it expires and is no good anyway. [ErrConflict] if it was used before, on
	// whatever instance.
	SpendNonce(ctx context.Context, digest [32]byte, expires time.Time) error

	// PruneSessions removes sessions and nonces that are over at now, limit at most
	// of each, the oldest first, and returns how many.
	PruneSessions(ctx context.Context, now time.Time, limit int) (int, error)
}
