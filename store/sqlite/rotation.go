package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// RotateKey implements [store.Store].
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
		return rotated, recordAll(ctx, tx, append([]*store.Key{rotated.New}, rotated.Ended...), write)
	})
}

const (
	selectRow    = "SELECT " + columns + " FROM system_keys WHERE id = ?"
	longestLease = "SELECT coalesce(max(ttl_ms), 0) FROM member"
	// handOver is for a key that goes while the one that it has replaced is there.
	handOver   = "UPDATE system_keys SET replaced_by = ?2 WHERE replaced_by = ?1"
	replaceKey = "UPDATE system_keys SET replaced_by = ?, planned_expiry = ?, grace_ms = ?, expires_at = ? WHERE id = ?"
)

func rotate(ctx context.Context, tx *sql.Tx, rotation *store.Rotation, write *store.Write, now time.Time) (*store.Rotated, error) {
	old, err := scanKey(tx.QueryRowContext(ctx, selectRow, rotation.ID.String()))
	if err != nil {
		return nil, err
	}
	var end []store.ID
	if old.ReplacedBy != (store.ID{}) {
		before, err := scanKey(tx.QueryRowContext(ctx, selectRow, old.ReplacedBy.String()))
		if end, err = sqlstore.Unused(rotation, before, err); err != nil {
			return nil, err
		}
	}
	if rotation.Now {
		end = append(end, old.ID)
	}
	var longest int64
	if err := tx.QueryRowContext(ctx, longestLease).Scan(&longest); err != nil {
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
		ended, err := deleteKey(ctx, tx, id, write)
		if err != nil {
			return nil, err
		}
		r.Ended = append(r.Ended, ended...)
	}
	row, err := keyRow(r.New)
	if err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, insertKey, row...); err != nil {
		return nil, err
	}
	if rotation.Now {
		_, err := tx.ExecContext(ctx, handOver, old.ID.String(), r.New.ID.String())
		return r, err
	}
	rotation.Replace(old, r.New, now)
	_, err = tx.ExecContext(ctx, replaceKey, old.ReplacedBy.String(), micros(old.PlannedExpiry), old.Grace.Milliseconds(),
		micros(old.ExpiresAt), old.ID.String())
	return r, err
}
