package store

import (
	"errors"
	"fmt"
	"time"
)

// Rotation says how a key is replaced by a successor. The successor is a new row; nothing of
// the old key changes but its end.
type Rotation struct {
	// ID is the key to replace.
	ID ID
	// Known are the successors of the key that were there when its caller asked. If the caller
	// has given up and asked again, the first request may come last. It must not end the
	// successor that the second one has answered.
	Known []ID
	// Successor makes the row of the new key, with its hash, from the row of the old one as
	// it is in the transaction. It may be called more than once. Its error ends the
	// transaction and is returned. The store sets [Key.Replaces] and [Key.ExpiresAt].
	Successor func(old *Key) (*Key, error)
	// Deadline is after which time the old key ends, and Grace after which time since the
	// first use of the successor, whichever is first. None may be shorter than the longest
	// lease in force: who has not heard of the end by then has no lease any more.
	Deadline, Grace time.Duration
	// Now deletes the old key at once, as [Store.DeleteKey] does. Deadline and Grace are not
	// used then.
	Now bool
}

// Rotated is what a [Rotation] has changed.
type Rotated struct {
	// Old is the old key with its end, without its hash, and New its successor.
	Old, New *Key
	// Ended are the keys that were deleted: an unused successor of an earlier rotation, and
	// the old key itself with [Rotation.Now].
	Ended []*Key
}

// ErrEnded means that a key has expired, so that it cannot be replaced.
var ErrEnded = errors.New("the key has expired")

// ReplacedError means that a key cannot be replaced again: its successor is in use, or is
// none of [Rotation.Known].
type ReplacedError struct {
	By    ID
	InUse bool
}

func (e *ReplacedError) Error() string {
	if e.InUse {
		return fmt.Sprintf("the key was replaced by %s, which is in use", e.By)
	}
	return fmt.Sprintf("the key was replaced by %s meanwhile", e.By)
}

// maxAncestors bounds [Key.Ancestors]. A key that rotates itself each day reaches it after
// eleven years.
const maxAncestors = 4096

// Check returns an error if the old key cannot be replaced, now that the store's clock shows
// this time and this is the longest lease in force.
func (r *Rotation) Check(old *Key, now time.Time, longest time.Duration) error {
	if old.Expired(now) {
		return ErrEnded
	}
	if r.Now {
		return nil
	}
	var errs [2]error
	for i, field := range []struct {
		name string
		wait time.Duration
	}{{"grace", r.Grace}, {"deadline", r.Deadline}} {
		if field.wait < longest {
			errs[i] = &InvalidError{Field: field.name, Reason: "must not be shorter than the longest lease in force, " + longest.String()}
		}
	}
	return errors.Join(errs[:]...)
}

// Succeed makes the row of the successor, which lives no longer than the old key was made
// to.
func (r *Rotation) Succeed(old *Key) (*Key, error) {
	key, err := r.Successor(old)
	if err != nil {
		return nil, err
	}
	key.Replaces, key.ExpiresAt = old.ID, time.Time{}
	if planned := old.planned(); !planned.IsZero() {
		key.ExpiresAt = key.CreatedAt.Add(planned.Sub(old.CreatedAt))
	}
	if key.CreatedBy != old.ID.String() {
		return key, nil
	}
	// The old key has minted its own successor.
	if len(old.Ancestors) >= maxAncestors {
		return nil, &InvalidError{Field: "id", Reason: fmt.Sprintf("has rotated itself %d times: another key must rotate it now", maxAncestors)}
	}
	key.Ancestors = append(append([]ID{}, old.Ancestors...), old.ID)
	return key, nil
}

// planned is when the key would expire if it had not been replaced.
func (k *Key) planned() time.Time {
	if k.ReplacedBy != (ID{}) {
		return k.PlannedExpiry
	}
	return k.ExpiresAt
}

// Replace notes in the old key that the successor replaces it, and when it ends.
func (r *Rotation) Replace(old, successor *Key, now time.Time) {
	old.PlannedExpiry = old.planned()
	old.ReplacedBy, old.Grace = successor.ID, r.Grace
	if deadline := now.Add(r.Deadline).UTC().Truncate(time.Microsecond); old.ExpiresAt.IsZero() || deadline.Before(old.ExpiresAt) {
		old.ExpiresAt = deadline
	}
}
