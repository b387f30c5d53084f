package postgres

import (
	"context"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// RotateKey implements [store.Store].
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
		return rotated, recordAll(ctx, tx, append([]*store.Key{rotated.New}, rotated.Ended...), write)
	})
}

const (
	// lockKey returns the key with the server's time after it has the lock.
	lockKey      = "WITH locked AS MATERIALIZED (SELECT " + columns + " FROM {keys} WHERE id = $1 FOR UPDATE) SELECT " + columns + ", clock_timestamp() FROM locked"
	longestLease = "SELECT coalesce(max(ttl_ms), 0) FROM {own}.member"
	// handOver is for a key that goes while the one that it has replaced is there.
	handOver   = "UPDATE {keys} SET replaced_by = $2 WHERE replaced_by = $1"
	replaceKey = "UPDATE {keys} SET replaced_by = $2, planned_expiry = $3, grace_ms = $4, expires_at = $5 WHERE id = $1"
)

func rotate(ctx context.Context, tx *database, rotation *store.Rotation) (*store.Rotated, error) {
	var now time.Time
	old, err := scanKey(tx.QueryRow(ctx, lockKey, uuid(rotation.ID)), &now)
	if err != nil {
		return nil, err
	}
	var end []store.ID
	if old.ReplacedBy != (store.ID{}) {
		before, err := scanKey(tx.QueryRow(ctx, lockKey, uuid(old.ReplacedBy)), new(time.Time))
		if end, err = sqlstore.Unused(rotation, before, err); err != nil {
			return nil, err
		}
	}
	if rotation.Now {
		end = append(end, old.ID)
	}
	var longest int64
	if err := tx.QueryRow(ctx, longestLease).Scan(&longest); err != nil {
		return nil, err
	}
	if err := rotation.Check(old, now, milliseconds(longest)); err != nil {
		return nil, err
	}
	r := &store.Rotated{Old: old}
	if r.New, err = rotation.Succeed(old); err != nil {
		return nil, err
	}
	// The deletions come first: the successor would end with the key that it comes from.
	for _, id := range end {
		ended, err := deleteKey(ctx, tx, id)
		if err != nil {
			return nil, err
		}
		r.Ended = append(r.Ended, ended...)
	}
	if _, err := tx.Exec(ctx, insertKey, keyRow(r.New)...); err != nil {
		return nil, err
	}
	if rotation.Now {
		_, err := tx.Exec(ctx, handOver, uuid(old.ID), uuid(r.New.ID))
		return r, err
	}
	rotation.Replace(old, r.New, now)
	row := []any{uuid(old.ID), uuid(old.ReplacedBy), instant(old.PlannedExpiry), old.Grace.Milliseconds(), instant(old.ExpiresAt)}
	_, err = tx.Exec(ctx, replaceKey, row...)
	return r, err
}
