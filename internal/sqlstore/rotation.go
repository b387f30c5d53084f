package sqlstore

import (
	"errors"
	"slices"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Rotating has the statements of a rotation, as a driver runs them in its transaction. An error
// of one ends the rotation and is returned as it is.
type Rotating struct {
	// Lock reads a key without its hash. Until the transaction ends nobody else changes that
	// row. Now is the store's clock once that holds. If there is no row, the error is
	// [store.ErrNotFound].
	Lock func(id store.ID) (key *store.Key, now time.Time, err error)
	// Longest reads the longest lease in force, in milliseconds, which is 0 without members.
	Longest func() Row
	// Delete is the deletion of one key with its heirs, whose rows it returns.
	Delete func(id store.ID) ([]*store.Key, error)
	// Save inserts r.New. Then it stores the end of r.Old, unless that row was deleted: the key
	// that r.Old had replaced gets r.New as its successor instead.
	Save func(r *store.Rotated) error
}

// Run makes the checks of a rotation and runs the statements in their order. The errors are
// those of [store.Store.RotateKey], but for the acting key, which the driver checks before.
func (t *Rotating) Run(rotation *store.Rotation) (*store.Rotated, error) {
	old, now, err := t.Lock(rotation.ID)
	if err != nil {
		return nil, err
	}
	var end []store.ID
	if old.ReplacedBy != (store.ID{}) {
		successor, _, err := t.Lock(old.ReplacedBy)
		if end, err = unused(rotation, successor, err); err != nil {
			return nil, err
		}
	}
	if rotation.Now {
		end = append(end, old.ID)
	}
	var longest int64
	if err := t.Longest().Scan(&longest); err != nil {
		return nil, err
	}
	if err := rotation.Check(old, now, time.Duration(longest)*time.Millisecond); err != nil {
		return nil, err
	}
	r := &store.Rotated{Old: old}
	if r.New, err = rotation.Succeed(old); err != nil {
		return nil, err
	}
	// The deletions come first: the successor would end with the key that it comes from.
	for _, id := range end {
		ended, err := t.Delete(id)
		if err != nil {
			return nil, err
		}
		r.Ended = append(r.Ended, ended...)
	}
	if !rotation.Now {
		rotation.Replace(old, r.New, now)
	}
	return r, t.Save(r)
}

// unused returns the successor that has to end before its key can be replaced again, if it is
// there. If it was used, or if the rotation does not know it, the error is a
// [*store.ReplacedError]. Successor and err are what reading its row gave.
func unused(rotation *store.Rotation, successor *store.Key, err error) ([]store.ID, error) {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case !successor.LastUsedAt.IsZero() || successor.ReplacedBy != (store.ID{}):
		// It may have replaced itself, and that use may not be written yet.
		return nil, &store.ReplacedError{By: successor.ID, InUse: true}
	case !slices.Contains(rotation.Known, successor.ID):
		return nil, &store.ReplacedError{By: successor.ID}
	}
	return []store.ID{successor.ID}, nil
}
