package store

import "time"

// Key is one system key as the store keeps it. Times are in UTC and exact to
// the microsecond, which is what both databases can hold.
type Key struct {
	ID ID
	// Label is what humans call the key. Not unique. See [CleanLabel].
	Label string
	// Hash is the Argon2id PHC string of the whole key.
	Hash Hash
	// Permissions is sorted and without duplicates. See [CleanPermissions].
	Permissions []string
	// IsSystem gives every permission of the admin plane. It says nothing
	// about what a proxied request may do.
	IsSystem  bool
	CreatedAt time.Time
	// CreatedBy names who minted the key: a key id, or a word such as "cli".
	CreatedBy string
	// ExpiresAt is zero for a key that never expires.
	ExpiresAt time.Time
	// Foreign is set for a key that another service minted. Its row was written by
	// other means than [Store.CreateKey], or it was created as what it is. A foreign
	// key is not told from other strings by its tag; see [Adoption].
	Foreign bool
	// LastUsedAt is zero for a key that was never used.
	LastUsedAt time.Time
}

// Expired reports whether the key's time is over at now. A key is live up to
// and not including its expiry.
func (k *Key) Expired(now time.Time) bool {
	return !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt)
}

// Use says when a key was last used. See [Store.RecordUse].
type Use struct {
	ID ID
	At time.Time
}
