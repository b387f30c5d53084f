package store

import (
	"context"
	"time"
)

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
