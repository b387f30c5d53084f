package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Barrier implements [store.Store].
func (s *Store) Barrier(ctx context.Context) (rev int64, err error) {
	err = s.write(ctx, "enter a barrier", func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, "INSERT INTO change_log (op) VALUES ('b') RETURNING rev").Scan(&rev)
	})
	return rev, err
}

// Progress implements [store.Store].
func (s *Store) Progress(ctx context.Context, key store.ID) (*store.Progress, error) {
	progress := &store.Progress{Origin: origin}
	err := s.believe(ctx, "look at the instances", func(tx *sql.Tx) (err error) {
		if progress.Head, progress.Watched, err = head(ctx, tx); err != nil {
			return err
		}
		if progress.Members, err = members(ctx, tx); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `
SELECT coalesce(sum(c.requests), 0) FROM change_log l JOIN change_cut c ON c.rev = l.rev
WHERE l.key_id = ? AND l.op = 'd'`, key.String()).Scan(&progress.Cut)
	})
	if err != nil {
		return nil, err
	}
	return progress, nil
}

func members(ctx context.Context, tx *sql.Tx) ([]store.Member, error) {
	rows, err := tx.QueryContext(ctx,
		"SELECT id, beat, applied, ttl_ms, name, joined_at, seen_at FROM member ORDER BY joined_at, rowid")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // its error is Err's
	var all []store.Member
	for rows.Next() {
		var m store.Member
		var id string
		var ttl, joined, seen int64
		if err := rows.Scan(&id, &m.Beat, &m.Applied, &ttl, &m.Name, &joined, &seen); err != nil {
			return nil, err
		}
		if m.ID, err = store.ParseID(id); err != nil {
			return nil, fmt.Errorf("column id: %w", err)
		}
		m.TTL = time.Duration(ttl) * time.Millisecond
		m.JoinedAt, m.SeenAt = time.UnixMicro(joined).UTC(), time.UnixMicro(seen).UTC()
		all = append(all, m)
	}
	return all, rows.Err()
}

// Leave implements [store.Store].
func (s *Store) Leave(ctx context.Context, member store.ID) error {
	return s.write(ctx, "leave", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM member WHERE id = ?", member.String())
		return err
	})
}

// Reap implements [store.Store].
func (s *Store) Reap(ctx context.Context, member store.ID, beat int64) (reaped bool, err error) {
	err = s.write(ctx, "remove an instance", func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, "DELETE FROM member WHERE id = ? AND beat = ?", member.String(), beat)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		reaped = n == 1
		return err
	})
	return reaped && err == nil, err
}

// Prune implements [store.Store].
func (s *Store) Prune(ctx context.Context, keep int) error {
	return s.write(ctx, "prune the log of changes", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
DELETE FROM change_log WHERE rev < (SELECT min(rev) FROM (SELECT rev FROM change_log ORDER BY rev DESC LIMIT ?))`,
			max(1, keep))
		return err
	})
}
