package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Barrier implements [store.Store].
//
// Append takes the lock of the log, and keeps it until the commit is visible. So every change that
// was committed before has a lower rev. A server of another history enters nothing.
func (s *Store) Barrier(ctx context.Context) (rev int64, err error) {
	err = s.retry(func() error {
		rev, err = s.barrier(ctx)
		return err
	})
	return rev, explain("enter a barrier", err)
}

// barrier is one statement, so that the log is locked no longer than necessary.
func (s *Store) barrier(ctx context.Context) (rev int64, err error) {
	db, err := s.database(ctx)
	if err != nil {
		return 0, err
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	standbys := watchStandbys(conn.Conn())
	var at string
	err = db.on(conn).QueryRow(ctx, "SELECT {own}.append(ARRAY[NULL]::uuid[], 'b'), {origin} WHERE "+followed(1), s.seenArguments()...).
		Scan(&rev, &at)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, store.ErrOtherHistory
	}
	if err != nil {
		return 0, err
	}
	s.seen.Committed(at)
	return rev, standbys.err()
}

// progressColumns are the columns after serverColumns, and their tables. There is one row for
// each awaited member. Without any there is one row whose member is NULL. Members come by the
// time when they joined, then by their ids. A deletion may be in the log more than once, and the
// cuts of all its entries count.
const progressColumns = `, ` + watched + `, head.rev, head.tag, cut.requests, ` + sqlstore.MemberColumns + `
FROM (SELECT rev, tag FROM {own}.change_log ORDER BY rev DESC LIMIT 1) AS head
CROSS JOIN (
    SELECT coalesce(sum(c.requests), 0)::bigint AS requests
    FROM {own}.change_log l JOIN {own}.change_cut c USING (rev) WHERE l.key_id = ANY ($1::uuid[]) AND l.op = 'd'
) AS cut
LEFT JOIN {own}.member m ON $2::uuid[] IS NULL OR m.id = ANY ($2)
ORDER BY m.joined_at, m.id`

// Progress implements [store.Store].
//
// It is one statement, so the head, the members and the cuts are of one state.
func (s *Store) Progress(ctx context.Context, keys, awaited []store.ID) (_ *store.Progress, err error) {
	ctx, end := s.call(ctx, "progress", "look at the instances")
	defer end(&err)
	progress := &store.Progress{}
	scan := func(row sqlstore.Row) (store.Member, error) {
		return sqlstore.ScanMember(checkedRow{row, &progress.Origin},
			&progress.Watched, &progress.Head.Rev, &progress.Head.Tag, &progress.Cut)
	}
	members, err := sqlstore.Result(ctx, s.readFollowed, func(db *database) ([]store.Member, error) {
		return collect(ctx, db, scan, "SELECT "+serverColumns(3)+progressColumns, append([]any{uuids(keys), uuids(awaited)}, s.seenArguments()...)...)
	})
	if err != nil {
		return nil, err
	}
	if len(members) > 0 && members[0].ID != (store.ID{}) { // else it is the row without a member
		progress.Members = members
	}
	return progress, nil
}

// Leave implements [store.Store]. The cuts that the member has reported stay, since they belong to
// the entries of the log.
func (s *Store) Leave(ctx context.Context, member store.ID) error {
	_, err := s.exec(ctx, "DELETE FROM {own}.member WHERE id = $1", uuid(member))
	return explain("leave", err)
}

// Reap implements [store.Store]. The heartbeat is in the condition, so a member that has renewed
// meanwhile stays.
func (s *Store) Reap(ctx context.Context, member store.ID, heartbeat int64) (bool, error) {
	tag, err := s.exec(ctx, "DELETE FROM {own}.member WHERE id = $1 AND beat = $2", uuid(member), heartbeat)
	return err == nil && tag.RowsAffected() == 1, explain("remove an instance", err)
}

// Prune implements [store.Store]. It also removes the rows of the table deletion, whose trigger
// has entered them into the log. The cuts go with their entries, by their foreign key.
func (s *Store) Prune(ctx context.Context, keep int) error {
	_, err := s.exec(ctx, `
WITH logged AS (DELETE FROM {own}.deletion)
DELETE FROM {own}.change_log WHERE rev < (
    SELECT min(rev) FROM (SELECT rev FROM {own}.change_log ORDER BY rev DESC LIMIT $1) AS kept
)`, max(1, keep))
	return explain("prune the log of changes", err)
}
