package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
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
func (s *Store) Progress(ctx context.Context, key store.ID) (_ *store.Progress, err error) {
	ctx, end := s.calls.Begin(ctx, "progress")
	defer end(&err)
	progress := &store.Progress{Origin: origin}
	err = s.believe(ctx, "look at the instances", func(tx *sql.Tx) (err error) {
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
	return collect(ctx, tx, scanMember,
		"SELECT id, beat, applied, ttl_ms, name, joined_at, seen_at FROM member ORDER BY joined_at, rowid")
}

func scanMember(row sqlstore.Row) (m store.Member, err error) {
	var ttl, joined, seen int64
	err = row.Scan(sqlstore.ID(&m.ID), &m.Beat, &m.Applied, &ttl, &m.Name, &joined, &seen)
	m.TTL = time.Duration(ttl) * time.Millisecond
	m.JoinedAt, m.SeenAt = time.UnixMicro(joined).UTC(), time.UnixMicro(seen).UTC()
	return m, err
}

// Leave implements [store.Store].
func (s *Store) Leave(ctx context.Context, member store.ID) error {
	_, err := s.exec(ctx, "leave", "DELETE FROM member WHERE id = ?", member.String())
	return err
}

// Reap implements [store.Store].
func (s *Store) Reap(ctx context.Context, member store.ID, beat int64) (bool, error) {
	n, err := s.exec(ctx, "remove an instance", "DELETE FROM member WHERE id = ? AND beat = ?", member.String(), beat)
	return n == 1 && err == nil, err
}

// Prune implements [store.Store].
func (s *Store) Prune(ctx context.Context, keep int) error {
	_, err := s.exec(ctx, "prune the log of changes", `
DELETE FROM change_log WHERE rev < (SELECT min(rev) FROM (SELECT rev FROM change_log ORDER BY rev DESC LIMIT ?))`,
		max(1, keep))
	return err
}
