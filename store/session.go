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

// AdoptedKey says by which digest a key of another service is found.
type AdoptedKey struct {
	// Digest is of the whole key, under a secret that no store ever sees. Without
	// the secret nobody can tell from it whether a guess is right.
	Digest [32]byte
	// Era names that secret.
	Era [32]byte
	Key ID
	// Hash is the stored hash that the key was verified against.
	Hash Hash
}

// Candidate is a key of another service that nothing is known of but its hash.
type Candidate struct {
	ID   ID
	Hash Hash
}

// MaxUnadopted is how far [Adoption] counts the keys that have no entry.
const MaxUnadopted = 10_000

// Adoption is the part of a [Store] that finds the keys which other services have
// minted ([Key.Foreign]). What such a key is like says nothing of whose it is: it is
// tried against all candidates once, and entered under a digest then.
//
// An entry is a hint, and nobody is let through on its word. It ends in the
// transaction in which its key ends, as a [Session] does, and it lasts when the key
// is given another hash by [Store.RehashKey].
type Adoption interface {
	// Adopted returns the key that is entered under one of these digests, and the
	// hash of that moment, as long as it is foreign and its row has the hash that it
	// was entered with; [ErrNotFound] if there is none. A standby's word is not
	// taken: [ErrStandby].
	Adopted(ctx context.Context, digests [][32]byte) (Candidate, error)

	// Adopt enters a key under a digest, in the place of what was entered there and
	// of its entry of the same era. [ErrConflict] if its hash is another by now, or
	// if it is not foreign; [ErrNotFound] if it is gone.
	Adopt(ctx context.Context, key *AdoptedKey) error

	// Unadopted returns the foreign keys that have no entry of these eras and are
	// not over at now, the oldest first, limit at most and at least 1, and how many
	// there are: exact up to [MaxUnadopted], which is the highest answer. A limit
	// beyond it is one of it. A standby's word is not taken: [ErrStandby].
	Unadopted(ctx context.Context, eras [][32]byte, now time.Time, limit int) (keys []Candidate, total int, err error)
}
