package store

import (
	"context"
	"time"
)

// Session is the session of a browser in which an admin has signed in with a key.
type Session struct {
	// Digest is the SHA-256 of the session's token. The token itself is kept nowhere.
	Digest    [32]byte
	Key       ID
	ExpiresAt time.Time
}

// Sessions is the part of a [Store] that keeps the sessions of the System page.
//
// A session ends in the transaction in which its key ends: when the key is deleted, gets
// another hash by any other way than [Store.RehashKey], or goes with TRUNCATE. It does not
// matter who does that. If a key with the same id is created again, the sessions stay ended.
type Sessions interface {
	// CreateSession stores a session. The error is [ErrActorGone] if its key does not exist,
	// and [ErrConflict] if the digest is taken. The key is checked in the same transaction,
	// so that a key that is revoked meanwhile leaves no session.
	CreateSession(ctx context.Context, session *Session) error

	// Session returns the key of a session as the primary has it now, without its hash. The
	// error is [ErrNotFound] if there is no such session or if it has expired at now. At its
	// expiry itself a session has expired. On a standby the error is [ErrStandby]. The caller
	// must check whether the key has expired.
	Session(ctx context.Context, digest [32]byte, now time.Time) (*Key, error)

	// EndSession ends a session durably. If there is no such session, it returns nil.
	EndSession(ctx context.Context, digest [32]byte) error

	// SpendNonce records durably that a nonce was used. The record is kept until the nonce
	// expires. The error is [ErrConflict] if the nonce was used before, on any instance.
	SpendNonce(ctx context.Context, digest [32]byte, expires time.Time) error

	// PruneSessions removes sessions and nonces that have expired at now, the oldest first and
	// at most limit of each. It returns how many it has removed.
	PruneSessions(ctx context.Context, now time.Time, limit int) (int, error)
}

// AdoptedKey is an entry that maps a digest to a key of another service.
type AdoptedKey struct {
	// Digest is a digest of the whole key under a secret that no store ever sees. Without the
	// secret nobody can use the digest to check a guess.
	Digest [32]byte
	// Era names that secret.
	Era [32]byte
	Key ID
	// Hash is the stored hash that the key was verified against.
	Hash Hash
}

// Candidate is a key of another service of which only the hash is known.
type Candidate struct {
	ID   ID
	Hash Hash
}

// MaxUnadopted is where [Adoption] stops to count the keys that have no entry.
const MaxUnadopted = 10_000

// Adoption is the part of a [Store] that finds keys which other services have minted
// ([Key.Foreign]). Such a key does not name its row. It is tried against all candidates once,
// and then entered under a digest.
//
// An entry is only a hint: nobody is let in because of it. Like a [Session], it ends in the
// transaction in which its key ends. It stays when the key gets another hash by
// [Store.RehashKey].
type Adoption interface {
	// Adopted returns the key that is entered under one of these digests, with its present
	// hash. The key must be foreign and have the hash that it was entered with. If there is no
	// such key, the error is [ErrNotFound]. On a standby it is [ErrStandby].
	Adopted(ctx context.Context, digests [][32]byte) (Candidate, error)

	// Adopt enters a key under a digest. It replaces the entry of that digest, and the key's
	// entry of the same era. The error is [ErrConflict] if the key has another hash by now or
	// is not foreign, and [ErrNotFound] if the key does not exist any more.
	Adopt(ctx context.Context, key *AdoptedKey) error

	// Unadopted returns the foreign keys that have no entry of these eras and have not
	// expired at now, the oldest first. Limit is the highest number of keys, at least 1; a
	// limit above [MaxUnadopted] counts as that. Total is the number of all such keys, exact
	// up to [MaxUnadopted], where it ends. On a standby the error is [ErrStandby].
	Unadopted(ctx context.Context, eras [][32]byte, now time.Time, limit int) (keys []Candidate, total int, err error)
}
