package sqlite

import (
	"context"
	"database/sql"
	"slices"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Barrier implements [store.Store]. The entry gets its rev under the lock of the writer. So
// every change that was committed before has a lower one, and every later change a higher one.
func (s *Store) Barrier(ctx context.Context) (int64, error) {
	return result(ctx, s.write, "enter a barrier", func(tx *sql.Tx) (rev int64, err error) {
		err = tx.QueryRowContext(ctx, "INSERT INTO change_log (op) VALUES ('b') RETURNING rev").Scan(&rev)
		return rev, err
	})
}

// Progress implements [store.Store].
//
// It reads one state. Members are ordered by JoinedAt. The rowid decides between two with the same
// time: whose row was inserted first comes first. The index change_log_by_key finds the entries
// whose cuts count.
func (s *Store) Progress(ctx context.Context, keys, awaited []store.ID) (_ *store.Progress, err error) {
	ctx, end := s.calls.Begin(ctx, "progress")
	defer end(&err)
	return result(ctx, s.readFollowed, "look at the instances", func(tx *sql.Tx) (_ *store.Progress, err error) {
		progress := &store.Progress{Origin: origin}
		if progress.Head, progress.Watched, err = head(ctx, tx); err != nil {
			return nil, err
		}
		progress.Members, err = collect(ctx, tx, func(row sqlstore.Row) (store.Member, error) { return sqlstore.ScanMember(row) },
			"SELECT "+sqlstore.MemberColumns+" FROM member m ORDER BY joined_at, rowid")
		if err != nil {
			return nil, err
		}
		// Members are few, so they are picked here.
		progress.Members = slices.DeleteFunc(progress.Members, func(m store.Member) bool {
			return awaited != nil && !slices.Contains(awaited, m.ID)
		})
		err = tx.QueryRowContext(ctx, `
SELECT coalesce(sum(c.requests), 0) FROM change_log l JOIN change_cut c ON c.rev = l.rev
WHERE l.key_id IN (SELECT value FROM json_each(?)) AND l.op = 'd'`, jsonIDs(keys)).Scan(&progress.Cut)
		return progress, err
	})
}

// Leave implements [store.Store]. The cuts that the member has reported stay, since they belong to
// the entries of the log.
func (s *Store) Leave(ctx context.Context, member store.ID) error {
	_, err := s.exec(ctx, "leave", "DELETE FROM member WHERE id = ?", member.String())
	return err
}

// Reap implements [store.Store]. The heartbeat is in the condition, so a member that has renewed
// meanwhile stays.
func (s *Store) Reap(ctx context.Context, member store.ID, heartbeat int64) (bool, error) {
	n, err := s.exec(ctx, "remove an instance", "DELETE FROM member WHERE id = ? AND beat = ?", member.String(), heartbeat)
	return n == 1 && err == nil, err
}

// Prune implements [store.Store]. The cuts go with their entries, by their foreign key.
// AUTOINCREMENT never gives a rev of a pruned entry out again (https://sqlite.org/autoinc.html
// section 3).
func (s *Store) Prune(ctx context.Context, keep int) error {
	_, err := s.exec(ctx, "prune the log of changes", `
DELETE FROM change_log WHERE rev < (SELECT min(rev) FROM (SELECT rev FROM change_log ORDER BY rev DESC LIMIT ?))`,
		max(1, keep))
	return err
}
