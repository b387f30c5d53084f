package store

import (
	"fmt"
	"time"
)

// KeyFilter says which keys [Store.DeleteKeys] deletes. A key must match every filter that
// is set, and at least one must be.
type KeyFilter struct {
	// CreatedBy is what the keys have as [Key.CreatedBy].
	CreatedBy string
	// CreatedSince is the earliest time of creation.
	CreatedSince time.Time
	// LabelPrefix is how the labels begin. No character of it has a meaning of its own, and
	// the case of letters matters.
	LabelPrefix string
	// Permission is one that the keys hold.
	Permission string
	// ExpiredBefore keeps keys whose expiry is before this time.
	ExpiredBefore time.Time
	// Retired keeps keys that were replaced, and whose expiry is longer ago than the longest
	// lease in force, by the store's clock.
	Retired bool
	// Limit is how many keys match at most, those with the lowest ids. Zero is no limit. It
	// is no filter.
	Limit int
	// Except are keys that are kept. It is no filter.
	Except []ID
}

// Any reports whether a filter is set. Without one, every key would match.
func (f *KeyFilter) Any() bool {
	return f.CreatedBy != "" || !f.CreatedSince.IsZero() || f.LabelPrefix != "" || f.Permission != "" || f.Ended()
}

// Ended reports whether the filter keeps none but keys that have ended. To delete these is to
// clean up, and no revocation: what comes from them lives on.
func (f *KeyFilter) Ended() bool { return f.Retired || !f.ExpiredBefore.IsZero() }

// Check returns an error if no filter is set, or if no row could hold one of the texts.
func (f *KeyFilter) Check() error {
	if !f.Any() {
		return &InvalidError{Field: "filter", Reason: "must be there: without one, every key would match"}
	}
	if !storable(f.CreatedBy + f.LabelPrefix + f.Permission) {
		return &InvalidError{Field: "filter", Reason: "must be UTF-8 without a zero byte"}
	}
	return nil
}

// ErrKept returns the error for a key that is to be kept, and would end with one that matches.
func ErrKept(kept ID) error {
	return &InvalidError{Field: "except", Reason: fmt.Sprintf("keeps %s, which comes from a key that matches and would end with it: keep that one too", kept)}
}

// Since is CreatedSince, rounded up to microseconds, as in a row.
func (f *KeyFilter) Since() time.Time { return f.CreatedSince.Add(time.Microsecond - 1) }
