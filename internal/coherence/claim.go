package coherence

import (
	"crypto/sha256"
	"slices"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Claim is what a request was let through with. It is shared and immutable.
type Claim struct {
	ID store.ID
	// Permissions is sorted.
	Permissions []string
	// ExpiresAt is zero for a key that never expires.
	ExpiresAt time.Time
	// Fingerprint is that of the stored hash the key was verified against.
	Fingerprint [32]byte
	// Adopted says that it was let through as a key of another service, which only a
	// foreign row may do.
	Adopted bool
}

// Fingerprint names a stored hash without holding it.
func Fingerprint(hash store.Hash) [32]byte { return sha256.Sum256([]byte(hash)) }

// ClaimOf is the claim of a key that was verified against the row.
func ClaimOf(row *store.Key) *Claim {
	return &Claim{
		ID:          row.ID,
		Permissions: slices.Sorted(slices.Values(row.Permissions)),
		ExpiresAt:   row.ExpiresAt,
		Fingerprint: Fingerprint(row.Hash),
	}
}

// heldBy reports whether the row still holds every permission of the claim, and may
// be used by such a key.
func (c *Claim) heldBy(row *store.Key) bool {
	if c.Adopted && !row.Foreign {
		return false
	}
	for _, p := range c.Permissions {
		if !slices.Contains(row.Permissions, p) {
			return false
		}
	}
	return true
}
