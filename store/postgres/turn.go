package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// watched is a condition: all changes of the table system_keys get into the log, and what comes
// of a key ends with it. The trigger that is for the rows of a replication alone is enabled for
// these. A statement on another table that this one is a part of, or the other way round, would
// fire no trigger for statements here.
const watched = `(
    SELECT count(*) = 7 FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE p.pronamespace = to_regnamespace('{own}') AND (
        t.tgrelid = to_regclass('{keys}') AND (t.tgenabled = 'A'
            AND t.tgname IN ('sidecar_log_update', 'sidecar_log_truncate', 'sidecar_insert', 'sidecar_delete')
            OR t.tgenabled IN ('A', 'R') AND t.tgname = 'sidecar_log_replicated')
        OR t.tgrelid IN (to_regclass('{own}.key_count'), to_regclass('{own}.deletion')) AND t.tgenabled = 'A'
            AND t.tgname IN ('sidecar_log_insert', 'sidecar_log_delete')
    ) AND NOT EXISTS (SELECT FROM pg_inherits WHERE to_regclass('{keys}') IN (inhrelid, inhparent))
)`

// withPlace says whether the turn's place is in the log. A CTE that is MATERIALIZED is read
// once, and all parts of the statement see the same answer.
const withPlace = `place AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM {own}.change_log WHERE rev = $2 AND tag = $3) AS known
)`

// renewMember updates the member's row and enters the cuts. All parts of a statement see the
// database as it was before the statement, with all changes up to some rev and none after.
// Applied never goes down. A cut of a change that was pruned is left out by the join. A member
// that is not there renews nothing, and enters no cuts.
const renewMember = `, renewed AS (
    UPDATE {own}.member SET beat = {own}.random_tag(), seen_at = clock_timestamp(),
        applied = CASE WHEN (SELECT known FROM place) THEN greatest(applied, $2) ELSE applied END
    WHERE id = $1
    RETURNING id
), reported AS (
    INSERT INTO {own}.change_cut (rev, member, requests)
    SELECT cut.rev, $1, cut.requests
    FROM unnest($5::bigint[], $6::bigint[]) AS cut (rev, requests) JOIN {own}.change_log USING (rev), renewed
    ON CONFLICT (rev, member) DO UPDATE SET requests = excluded.requests
)`

// chores are columns about what is left to do for any instance. A member that lives is silent
// for a quarter of its ttl at most. The clock of the server may have been set back.
const chores = `, chores AS (
    SELECT coalesce(max(ttl_ms), 0) AS longest, coalesce(array_agg(id) FILTER (WHERE silent), '{}') AS ids,
        coalesce(array_agg(beat) FILTER (WHERE silent), '{}') AS beats, coalesce(array_agg(ttl_ms) FILTER (WHERE silent), '{}') AS ttls,
        coalesce(array_agg(name) FILTER (WHERE silent), '{}') AS names,
        EXISTS (
            SELECT FROM {own}.audit_log WHERE chain IS NULL AND actor_type IN ('cli', 'sql')
                AND at NOT BETWEEN clock_timestamp() - interval '1 second' AND clock_timestamp()
        ) AS unsealed,
        -- The first entry of an index each. To look whether there is one, a planner without
        -- statistics would read the table.
        coalesce((SELECT min(` + expiry + `) FROM {keys}) < $7, false)
            OR coalesce((SELECT min(expires_at) FROM {keys} WHERE replaced_by IS NOT NULL)
                < statement_timestamp() - coalesce(max(ttl_ms), 0) * interval '1 millisecond', false) AS expired
    FROM (
        SELECT *, id <> $1 AND abs(extract(epoch FROM clock_timestamp() - seen_at)) * 1000 > 0.3 * ttl_ms AS silent FROM {own}.member
    ) AS m
)`

// noChores stands for chores in a view without them.
const noChores = `, chores AS (
    SELECT 0 AS longest, '{}'::uuid[] AS ids, '{}'::bigint[] AS beats, '{}'::integer[] AS ttls, '{}'::text[] AS names,
        false AS unsealed, false AS expired
)`

// viewColumns are the columns of a view, and their tables. Changes and members are arrays,
// since a view is one row.
const viewColumns = `
, (SELECT known FROM place), pg_is_in_recovery(), current_setting('synchronous_standby_names'), ` + watched + `, ` + following + `,
    head.rev, head.tag, log.revs, log.tags, log.ops, log.keys, log.times,
    chores.longest, chores.ids, chores.beats, chores.ttls, chores.names, chores.unsealed, chores.expired
FROM chores, (SELECT rev, tag FROM {own}.change_log ORDER BY rev DESC LIMIT 1) AS head, (
    SELECT coalesce(array_agg(rev ORDER BY rev), '{}') AS revs, coalesce(array_agg(tag ORDER BY rev), '{}') AS tags,
        coalesce(array_agg(op ORDER BY rev), '{}') AS ops, coalesce(array_agg(key_id ORDER BY rev), '{}') AS keys,
        coalesce(array_agg(at ORDER BY rev), '{}') AS times
    FROM (
        SELECT * FROM {own}.change_log WHERE rev > $2 AND (SELECT known FROM place) ORDER BY rev LIMIT $4
    ) AS next
) AS log`

// Renew implements [store.Feed].
//
// It is one statement, and so one transaction and one round trip. An error that the session is
// read-only becomes a view of a standby.
func (f *feed) Renew(ctx context.Context, turn *store.Turn) (*store.View, error) {
	const what = "renew the lease"
	revs, requests := make([]int64, 0, len(turn.Cuts)), make([]int64, 0, len(turn.Cuts))
	for _, cut := range turn.Cuts {
		revs, requests = append(revs, cut.Rev), append(requests, int64(cut.Requests))
	}
	standbys := watchStandbys(f.conn)
	view, err := f.view(ctx, "WITH "+withPlace+renewMember+chores+" SELECT EXISTS (SELECT FROM renewed)",
		append(arguments(turn), revs, requests, instant(turn.ExpiredBefore))...)
	if err == nil {
		err = standbys.err()
	}
	if code(err) == readOnlyTransaction {
		return &store.View{Standby: true}, nil
	}
	if err != nil {
		return nil, explain(what, err)
	}
	f.store.note(view, true)
	return view, nil
}

// Pull implements [store.Feed].
//
// It only reads, and works on a standby too, whose view says that it is one.
func (f *feed) Pull(ctx context.Context, turn *store.Turn) (*store.View, error) {
	view, err := f.view(ctx, "WITH "+withPlace+noChores+" SELECT EXISTS (SELECT FROM {own}.member WHERE id = $1)",
		arguments(turn)...)
	if err != nil {
		return nil, explain("read changes", err)
	}
	f.store.note(view, false)
	return view, nil
}

// arguments are the first four of every turn: the member, its place, and the limit.
func arguments(turn *store.Turn) []any {
	return []any{uuid(turn.Member), turn.Applied.Rev, turn.Applied.Tag, turn.Limit}
}

// view runs a statement and reads the view. Member is the beginning of the statement; its
// column says whether the instance is a member. CollectExactlyOneRow also returns an error
// of the commit, which comes after the row.
func (f *feed) view(ctx context.Context, member string, args ...any) (*store.View, error) {
	rows, err := f.db.Query(ctx, member+", {origin}"+viewColumns, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (*store.View, error) {
		var view store.View
		var standby string
		var revs, tags []int64
		var ops []string
		var keys []pgtype.UUID
		var times []time.Time
		var silent silentMembers
		var longest int64
		var carried *bool
		err := row.Scan(&view.Member, &view.Origin, &view.InLog, &view.Standby, &standby, &view.Watched, &carried,
			&view.Head.Rev, &view.Head.Tag, &revs, &tags, &ops, &keys, &times,
			&longest, &silent.ids, &silent.heartbeats, &silent.ttls, &silent.names, &view.Unsealed, &view.Expired)
		if err == nil && standby != f.standby {
			err = errors.New("the server's synchronous_standby_names were changed")
		}
		view.Unfollowed = carried != nil && !*carried
		f.store.follows.Store(carried != nil)
		view.Changes = changes(revs, tags, ops, keys, times)
		view.LongestTTL, view.Silent = milliseconds(longest), silent.members()
		return &view, err
	})
}

// silentMembers are the columns of [store.View.Silent]. The columns are arrays of one length, in
// one order: a view is one row.
type silentMembers struct {
	ids              []pgtype.UUID
	heartbeats, ttls []int64
	names            []string
}

func (s *silentMembers) members() []store.Member {
	all := make([]store.Member, 0, len(s.ids))
	for i, id := range s.ids {
		all = append(all, store.Member{ID: id.Bytes, Heartbeat: s.heartbeats[i], TTL: milliseconds(s.ttls[i]), Name: s.names[i]})
	}
	return all
}

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// changes makes the changes of their columns. The columns are arrays of one length. A kind is
// the first letter of an op.
func changes(revs, tags []int64, ops []string, keys []pgtype.UUID, times []time.Time) []store.Change {
	all := make([]store.Change, 0, len(revs))
	for i := range revs {
		change := store.Change{
			Position: store.Position{Rev: revs[i], Tag: tags[i]},
			Kind:     store.ChangeKind(ops[i][0]), At: times[i].UTC(),
		}
		if keys[i].Valid {
			change.Key = keys[i].Bytes
		}
		all = append(all, change)
	}
	return all
}
