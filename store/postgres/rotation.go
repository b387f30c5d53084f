package postgres

import (
	"context"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// RotateKey implements [store.Store].
//
// The rows of the acting key, of the old key and of its successor are locked until the commit.
// Of two rotations of a key the second one waits, and sees the successor of the first.
func (s *Store) RotateKey(ctx context.Context, rotation *store.Rotation, write *store.Write) (_ *store.Rotated, err error) {
	ctx, end := s.call(ctx, "rotate_key", "rotate a key")
	defer end(&err)
	return sqlstore.Result(ctx, s.durably, func(tx *database) (*store.Rotated, error) {
		if err := allow(ctx, tx, write.By(), forDeletion); err != nil {
			return nil, err
		}
		rotated, err := rotate(ctx, tx, rotation)
		if err != nil {
			return nil, err
		}
		return rotated, record(ctx, tx, write, append([]*store.Key{rotated.New}, rotated.Ended...)...)
	})
}

const (
	// lockKey returns the key with the server's time after it has the lock.
	lockKey = "WITH locked AS MATERIALIZED (SELECT " + columns + " FROM {keys} WHERE id = $1 FOR UPDATE) SELECT " + columns + ", clock_timestamp() FROM locked"
	// longestLease is 0 if no instance has joined.
	longestLease = "SELECT coalesce(max(ttl_ms), 0) FROM {own}.member"
	// handOver is for a key that goes while the one that it has replaced is there.
	handOver = "UPDATE {keys} SET replaced_by = $2 WHERE replaced_by = $1"
	// replaceKey stores the end of a key. The trigger logs it if expires_at changes.
	replaceKey = "UPDATE {keys} SET replaced_by = $2, planned_expiry = $3, grace_ms = $4, expires_at = $5 WHERE id = $1"
)

// rotate is a rotation in the transaction of a write. The deadline counts by the server's clock.
func rotate(ctx context.Context, tx *database, rotation *store.Rotation) (*store.Rotated, error) {
	steps := sqlstore.Rotating{
		Lock: func(id store.ID) (key *store.Key, now time.Time, err error) {
			key, err = scanKey(tx.QueryRow(ctx, lockKey, uuid(id)), &now)
			return key, now, err
		},
		Longest: func() sqlstore.Row { return tx.QueryRow(ctx, longestLease) },
		Delete:  func(id store.ID) ([]*store.Key, error) { return deleteKey(ctx, tx, id) },
		Save: func(r *store.Rotated) error {
			old := r.Old
			_, err := tx.Exec(ctx, insertKey, keyRow(r.New)...)
			switch {
			case err != nil:
			case rotation.Now:
				_, err = tx.Exec(ctx, handOver, uuid(old.ID), uuid(r.New.ID))
			default:
				_, err = tx.Exec(ctx, replaceKey, uuid(old.ID), uuid(old.ReplacedBy),
					instant(old.PlannedExpiry), old.Grace.Milliseconds(), instant(old.ExpiresAt))
			}
			return err
		},
	}
	return steps.Run(rotation)
}
