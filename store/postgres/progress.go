package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Barrier implements [store.Store].
func (s *Store) Barrier(ctx context.Context) (rev int64, err error) {
	err = s.again(func() error {
		rev, err = s.barrier(ctx)
		return err
	})
	return rev, explain("enter a barrier", err)
}

// barrier is one statement, so that the log is locked for no longer than that.
func (s *Store) barrier(ctx context.Context) (rev int64, err error) {
	origin, err := s.origin(ctx)
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
	err = conn.QueryRow(ctx, "SELECT sidecar.append(NULL, 'b'), "+origin+" WHERE "+followed(origin, 1), s.seenArguments()...).
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

// progressed has a row for each member, or one without.
const progressed = `, ` + watched + `, head.rev, head.tag, cut.requests,
    m.id, m.beat, m.applied, m.ttl_ms, m.name, m.joined_at, m.seen_at
FROM (SELECT rev, tag FROM sidecar.change_log ORDER BY rev DESC LIMIT 1) AS head
CROSS JOIN (
    SELECT coalesce(sum(c.requests), 0)::bigint AS requests
    FROM sidecar.change_log l JOIN sidecar.change_cut c USING (rev) WHERE l.key_id = $1 AND l.op = 'd'
) AS cut
LEFT JOIN sidecar.member m ON true
ORDER BY m.joined_at, m.id`

// Progress implements [store.Store].
func (s *Store) Progress(ctx context.Context, key store.ID) (_ *store.Progress, err error) {
	ctx, end := s.call(ctx, "progress", "look at the instances")
	defer end(&err)
	progress := &store.Progress{}
	scan := func(row sqlstore.Row) (member store.Member, err error) {
		var heartbeat, applied, ttl pgtype.Int8
		var name pgtype.Text
		var joined, seen pgtype.Timestamptz
		progress.Origin, err = checked(row, &progress.Watched, &progress.Head.Rev, &progress.Head.Tag, &progress.Cut,
			sqlstore.ID(&member.ID), &heartbeat, &applied, &ttl, &name, &joined, &seen)
		member.Name, member.TTL = name.String, time.Duration(ttl.Int64)*time.Millisecond
		member.Heartbeat, member.Applied = heartbeat.Int64, applied.Int64
		member.JoinedAt, member.SeenAt = utc(joined), utc(seen)
		return member, err
	}
	members, err := sqlstore.Result(ctx, s.there, func(origin string) ([]store.Member, error) {
		return collect(ctx, s.pool, scan, "SELECT "+self(origin, 2)+progressed, append([]any{uuid(key)}, s.seenArguments()...)...)
	})
	if err != nil {
		return nil, err
	}
	if len(members) > 0 && members[0].ID != (store.ID{}) { // or it is the row without a member
		progress.Members = members
	}
	return progress, nil
}

// Leave implements [store.Store].
func (s *Store) Leave(ctx context.Context, member store.ID) error {
	_, err := s.exec(ctx, "DELETE FROM sidecar.member WHERE id = $1", uuid(member))
	return explain("leave", err)
}

// Reap implements [store.Store].
func (s *Store) Reap(ctx context.Context, member store.ID, heartbeat int64) (bool, error) {
	tag, err := s.exec(ctx, "DELETE FROM sidecar.member WHERE id = $1 AND beat = $2", uuid(member), heartbeat)
	return err == nil && tag.RowsAffected() == 1, explain("remove an instance", err)
}

// Prune implements [store.Store].
func (s *Store) Prune(ctx context.Context, keep int) error {
	_, err := s.exec(ctx, `
DELETE FROM sidecar.change_log WHERE rev < (
    SELECT min(rev) FROM (SELECT rev FROM sidecar.change_log ORDER BY rev DESC LIMIT $1) AS kept
)`, max(1, keep))
	return explain("prune the log of changes", err)
}
