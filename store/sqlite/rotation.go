package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// RotateKey implements [store.Store].
//
// The write lock is held from the start, so that of two rotations of a key the second one sees
// the successor of the first.
func (s *Store) RotateKey(ctx context.Context, rotation *store.Rotation, write *store.Write) (_ *store.Rotated, err error) {
	ctx, end := s.calls.Begin(ctx, "rotate_key")
	defer end(&err)
	return result(ctx, s.write, "rotate a key", func(tx *sql.Tx) (*store.Rotated, error) {
		if err := allow(ctx, tx, write.By()); err != nil {
			return nil, err
		}
		rotated, err := rotate(ctx, tx, rotation, write, s.now())
		if err != nil {
			return nil, err
		}
		return rotated, record(ctx, tx, write, append([]*store.Key{rotated.New}, rotated.Ended...)...)
	})
}

const (
	// selectRow needs no lock of the row; see [Store.write].
	selectRow = "SELECT " + columns + " FROM system_keys WHERE id = ?"
	// longestLease is 0 if no instance has joined.
	longestLease = "SELECT coalesce(max(ttl_ms), 0) FROM member"
	// handOver is for a key that goes while the one that it has replaced is there. The index
	// system_keys_by_successor finds that one. ?1 is the key that goes, and ?2 the key that
	// comes in its place.
	handOver = "UPDATE system_keys SET replaced_by = ?2 WHERE replaced_by = ?1"
	// replaceKey stores the end of a key. The trigger logs it if expires_at changes.
	replaceKey = "UPDATE system_keys SET replaced_by = ?, planned_expiry = ?, grace_ms = ?, expires_at = ? WHERE id = ?"
)

// rotate is a rotation in the transaction of a write. Now is the store's clock, by which the
// deadline counts.
func rotate(ctx context.Context, tx *sql.Tx, rotation *store.Rotation, write *store.Write, now time.Time) (*store.Rotated, error) {
	steps := sqlstore.Rotating{
		Lock: func(id store.ID) (*store.Key, time.Time, error) {
			key, err := scanKey(tx.QueryRowContext(ctx, selectRow, id.String()))
			return key, now, err
		},
		Longest: func() sqlstore.Row { return tx.QueryRowContext(ctx, longestLease) },
		Delete:  func(id store.ID) ([]*store.Key, error) { return deleteKey(ctx, tx, id, write) },
		Save: func(r *store.Rotated) error {
			old := r.Old
			row, err := keyRow(r.New)
			if err == nil {
				_, err = tx.ExecContext(ctx, insertKey, row...)
			}
			switch {
			case err != nil:
			case rotation.Now:
				_, err = tx.ExecContext(ctx, handOver, old.ID.String(), r.New.ID.String())
			default:
				_, err = tx.ExecContext(ctx, replaceKey, old.ReplacedBy.String(), micros(old.PlannedExpiry),
					old.Grace.Milliseconds(), micros(old.ExpiresAt), old.ID.String())
			}
			return err
		},
	}
	return steps.Run(rotation)
}
