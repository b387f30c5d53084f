package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Barrier implements [store.Store].
func (s *Store) Barrier(ctx context.Context) (rev int64, err error) {
	err = again(func() error {
		return s.durably(ctx, func(db connection) error {
			return db.QueryRow(ctx, "SELECT sidecar.append(NULL, 'b')").Scan(&rev)
		})
	})
	return rev, explain("enter a barrier", err)
}

// progressed has a row for each member, or one without.
const progressed = `
SELECT pg_is_in_recovery(), ` + watched + `, head.rev, head.tag, cut.requests,
    m.id, m.beat, m.applied, m.ttl_ms, m.name, m.joined_at, m.seen_at, `

const progressedFrom = `
FROM (SELECT rev, tag FROM sidecar.change_log ORDER BY rev DESC LIMIT 1) AS head
CROSS JOIN (
    SELECT coalesce(sum(c.requests), 0)::bigint AS requests
    FROM sidecar.change_log l JOIN sidecar.change_cut c USING (rev) WHERE l.key_id = $1 AND l.op = 'd'
) AS cut
LEFT JOIN sidecar.member m ON true
ORDER BY m.joined_at, m.id`

// Progress implements [store.Store].
func (s *Store) Progress(ctx context.Context, key store.ID) (*store.Progress, error) {
	const what = "look at the instances"
	origin, err := s.origin(ctx, s.pool)
	if err != nil {
		return nil, explain(what, err)
	}
	rows, err := s.pool.Query(ctx, progressed+origin+progressedFrom, uuid(key))
	if err != nil {
		return nil, explain(what, err)
	}
	progress := &store.Progress{}
	var standby bool
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var id pgtype.UUID
		var beat, applied, ttl pgtype.Int8
		var name pgtype.Text
		var joined, seen pgtype.Timestamptz
		err := row.Scan(&standby, &progress.Watched, &progress.Head.Rev, &progress.Head.Tag, &progress.Cut,
			&id, &beat, &applied, &ttl, &name, &joined, &seen, &progress.Origin)
		if err == nil && id.Valid {
			progress.Members = append(progress.Members, store.Member{
				ID: id.Bytes, Name: name.String, TTL: time.Duration(ttl.Int64) * time.Millisecond,
				Beat: beat.Int64, Applied: applied.Int64, JoinedAt: utc(joined), SeenAt: utc(seen),
			})
		}
		return struct{}{}, err
	})
	if err == nil && standby {
		err = store.ErrStandby
	}
	if err != nil {
		return nil, explain(what, err)
	}
	return progress, nil
}

// Leave implements [store.Store].
func (s *Store) Leave(ctx context.Context, member store.ID) error {
	_, err := s.pool.Exec(ctx, "DELETE FROM sidecar.member WHERE id = $1", uuid(member))
	return explain("leave", err)
}

// Reap implements [store.Store].
func (s *Store) Reap(ctx context.Context, member store.ID, beat int64) (bool, error) {
	tag, err := s.pool.Exec(ctx, "DELETE FROM sidecar.member WHERE id = $1 AND beat = $2", uuid(member), beat)
	return err == nil && tag.RowsAffected() == 1, explain("remove an instance", err)
}

// Prune implements [store.Store].
func (s *Store) Prune(ctx context.Context, keep int) error {
	_, err := s.pool.Exec(ctx, `
DELETE FROM sidecar.change_log WHERE rev < (
    SELECT min(rev) FROM (SELECT rev FROM sidecar.change_log ORDER BY rev DESC LIMIT $1) AS kept
)`, max(1, keep))
	return explain("prune the log of changes", err)
}
