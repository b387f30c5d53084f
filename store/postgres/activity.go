package postgres

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// lockUsed locks the rows of the keys in the order of their ids, so that two batches never
// wait for each other in a circle. Until the transaction ends, none of these keys is deleted, and
// no other batch writes their activity. ReportNetworks may: it locks the key's row of key_activity
// instead. lockUsed returns the keys that there are. When the server has the lock it reads the
// row again, so that the last use is what an earlier batch has written.
//
// The keys that unused successors replace are locked with them, since endReplaced writes to their
// rows. FOR NO KEY UPDATE is the lock of such an UPDATE. It lets others refer to the rows by a
// foreign key meanwhile (https://www.postgresql.org/docs/current/explicit-locking.html, row locks).
const lockUsed = `SELECT id, last_used_at, replaces FROM {keys}
WHERE id = ANY ($1::uuid[] || ARRAY(SELECT replaces FROM {keys} WHERE id = ANY ($1::uuid[]) AND last_used_at IS NULL AND replaces IS NOT NULL))
ORDER BY id FOR NO KEY UPDATE`

// endReplaced ends the keys whose successors were used for the first time. $1 are the successors
// whose first use this transaction writes. Since the rotation, an instance may have joined with a
// longer lease than the grace, so the longer of both counts. The trigger enters the new expiry into
// the change log, so each instance hears of the end.
const endReplaced = `
UPDATE {keys} old SET expires_at = least(old.expires_at, clock_timestamp() + greatest(
    old.grace_ms, (SELECT max(ttl_ms) FROM {own}.member)
) * interval '1 millisecond')
FROM {keys} successor
WHERE successor.id = ANY ($1::uuid[]) AND old.id = successor.replaces AND old.replaced_by = successor.id`

// recordLastUse is after lockUsed, so it waits for no row. A batch may name a key more than once,
// and the latest time counts. The triggers of the change log do not look at this column.
const recordLastUse = `
UPDATE {keys} k SET last_used_at = u.at
FROM (SELECT id, max(at) AS at FROM unnest($1::uuid[], $2::timestamptz[]) AS u (id, at) GROUP BY id) AS u
WHERE k.id = u.id AND coalesce(k.last_used_at, '-infinity') < u.at`

// recordFirstUse keeps the earliest time for each key. One statement must not write a row twice
// (https://www.postgresql.org/docs/current/sql-insert.html, ON CONFLICT). So here and below the
// rows of a batch are grouped first.
const recordFirstUse = `
INSERT INTO {own}.key_activity AS a (key_id, first_at)
SELECT id, min(at) FROM unnest($1::uuid[], $2::timestamptz[]) AS u (id, at) GROUP BY id
ON CONFLICT (key_id) DO UPDATE SET first_at = excluded.first_at WHERE excluded.first_at < a.first_at`

// recordDays adds to the counts of the days. $2 are days since the Unix epoch.
const recordDays = `
INSERT INTO {own}.key_day AS d (key_id, day, requests, denied)
SELECT id, date 'epoch' + day, sum(requests), sum(denied)
FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::bigint[]) AS u (id, day, requests, denied)
GROUP BY 1, 2
ON CONFLICT (key_id, day) DO UPDATE SET requests = d.requests + excluded.requests, denied = d.denied + excluded.denied`

// endDays removes the days before $2, of the keys of the batch alone. Those of other keys end at
// their next use.
const endDays = `DELETE FROM {own}.key_day WHERE key_id = ANY ($1::uuid[]) AND day < date 'epoch' + $2::int`

// recordNetworks takes the time after which a network is new again. The very first network of a
// key is not new. If a batch has several networks of a key that had none, the very first one is
// the one that was used first.
const recordNetworks = `
INSERT INTO {own}.key_network AS n (key_id, network, first_at, last_at, requests, unreported)
SELECT id, network, min(first), max(last), sum(requests),
    row_number() OVER (PARTITION BY id ORDER BY min(first), network) > 1
        OR EXISTS (SELECT FROM {own}.key_network o WHERE o.key_id = id)
FROM unnest($1::uuid[], $2::cidr[], $3::timestamptz[], $4::timestamptz[], $5::bigint[]) AS u (id, network, first, last, requests)
GROUP BY id, network
ON CONFLICT (key_id, network) DO UPDATE SET
    unreported = n.unreported OR excluded.first_at - n.last_at > $6,
    first_at = least(n.first_at, excluded.first_at), last_at = greatest(n.last_at, excluded.last_at),
    requests = n.requests + excluded.requests`

// recordAsked keeps the time of the last request for each permission.
const recordAsked = `
INSERT INTO {own}.key_asked AS a (key_id, permission, last_at)
SELECT id, permission, max(at) FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS u (id, permission, at)
GROUP BY 1, 2
ON CONFLICT (key_id, permission) DO UPDATE SET last_at = greatest(a.last_at, excluded.last_at)`

// These take how many rows of a key are kept.
const (
	endNetworks = `
DELETE FROM {own}.key_network n USING (
    SELECT key_id, network, row_number() OVER (PARTITION BY key_id ORDER BY last_at DESC, network) AS place
    FROM {own}.key_network WHERE key_id = ANY ($1::uuid[])
) AS p WHERE place > $2 AND n.key_id = p.key_id AND n.network = p.network`
	endAsked = `
DELETE FROM {own}.key_asked a USING (
    SELECT key_id, permission, row_number() OVER (PARTITION BY key_id ORDER BY last_at DESC, permission) AS place
    FROM {own}.key_asked WHERE key_id = ANY ($1::uuid[])
) AS p WHERE place > $2 AND a.key_id = p.key_id AND a.permission = p.permission`
)

// RecordUse implements [store.Store].
//
// All is one transaction. Times are compared with the server's clock. If the server rolls the
// transaction back because of a deadlock, it is made again from the same uses. After the commit the
// last uses go to the table that is followed, if there is one. A failure of that does not fail the
// call.
func (s *Store) RecordUse(ctx context.Context, uses []store.Use) (err error) {
	ctx, end := s.call(ctx, "record_use", "record use")
	defer end(&err)
	var used []pgtype.UUID
	err = s.transact(ctx, func(tx *database) error {
		// Keys that are gone are not among the rows that lockUsed returns, and are skipped below.
		ids := make([]pgtype.UUID, 0, len(uses))
		for i := range uses {
			ids = append(ids, uuid(uses[i].ID))
		}
		var now time.Time
		if err := tx.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
			return err
		}
		earlier, successors := make(map[store.ID]time.Time, len(uses)), make(map[store.ID]bool)
		_, err := collect(ctx, tx, func(row sqlstore.Row) (id store.ID, err error) {
			var at pgtype.Timestamptz
			var replaces pgtype.UUID
			err = row.Scan(sqlstore.ID(&id), &at, &replaces)
			earlier[id], successors[id] = at.Time, replaces.Valid && !at.Valid
			return id, err
		}, lockUsed, ids)
		if err != nil || len(earlier) == 0 {
			return err
		}
		batch := newBatch(sqlstore.UsesOf(uses, now), earlier, successors)
		used = batch.used
		return batch.write(ctx, tx, sqlstore.Oldest(now))
	})
	if err == nil && s.follows.Load() {
		s.flowBack(ctx, used)
	}
	return err
}

// useBatch has the columns of the rows to write, as arrays.
type useBatch struct {
	used, begun       []pgtype.UUID // begun are the successors that were used for the first time
	first, last       []time.Time
	dayKeys           []pgtype.UUID
	days              []int32
	requests, denied  []int64
	networkKeys       []pgtype.UUID
	networks          []netip.Prefix
	firstFrom, lastOf []time.Time
	from              []int64
	askedKeys         []pgtype.UUID
	permissions       []string
	askedAt           []time.Time
}

// newBatch takes the rows of the keys that there are. Earlier is when each was used last. For
// a key that was used before its activity was kept, that is the first use that is known.
func newBatch(rows *sqlstore.Uses, earlier map[store.ID]time.Time, successors map[store.ID]bool) *useBatch {
	b := new(useBatch)
	for _, r := range rows.Keys {
		before, there := earlier[r.ID]
		if !there || r.At.IsZero() {
			continue
		}
		if !before.IsZero() && before.Before(r.First) {
			r.First = before
		}
		if successors[r.ID] {
			b.begun = append(b.begun, uuid(r.ID))
		}
		b.used, b.first, b.last = append(b.used, uuid(r.ID)), append(b.first, r.First), append(b.last, r.At)
	}
	for _, r := range rows.Days {
		if _, there := earlier[r.ID]; there {
			b.dayKeys, b.days = append(b.dayKeys, uuid(r.ID)), append(b.days, int32(r.Day))
			b.requests, b.denied = append(b.requests, r.Requests), append(b.denied, r.Denied)
		}
	}
	for _, r := range rows.Networks {
		if _, there := earlier[r.ID]; there {
			b.networkKeys, b.networks = append(b.networkKeys, uuid(r.ID)), append(b.networks, r.Network)
			b.firstFrom, b.lastOf = append(b.firstFrom, r.FirstAt), append(b.lastOf, r.LastAt)
			b.from = append(b.from, r.Requests)
		}
	}
	for _, r := range rows.Asked {
		if _, there := earlier[r.ID]; there {
			b.askedKeys, b.permissions = append(b.askedKeys, uuid(r.ID)), append(b.permissions, r.Permission)
			b.askedAt = append(b.askedAt, r.LastAt)
		}
	}
	return b
}

// write runs the statements that have rows. Oldest is the first day that is kept.
func (b *useBatch) write(ctx context.Context, tx *database, oldest store.Day) error {
	for _, step := range []struct {
		rows      int
		statement string
		args      []any
	}{
		{len(b.used), recordFirstUse, []any{b.used, b.first}},
		{len(b.used), recordLastUse, []any{b.used, b.last}},
		{len(b.begun), endReplaced, []any{b.begun}},
		{len(b.dayKeys), recordDays, []any{b.dayKeys, b.days, b.requests, b.denied}},
		{len(b.dayKeys), endDays, []any{b.dayKeys, int32(oldest)}},
		{len(b.networkKeys), recordNetworks, []any{
			b.networkKeys, b.networks, b.firstFrom, b.lastOf, b.from, store.NetworkForgotten,
		}},
		{len(b.networkKeys), endNetworks, []any{b.networkKeys, store.MaxActivity}},
		{len(b.askedKeys), recordAsked, []any{b.askedKeys, b.permissions, b.askedAt}},
		{len(b.askedKeys), endAsked, []any{b.askedKeys, store.MaxActivity}},
	} {
		if step.rows == 0 {
			continue
		}
		if _, err := tx.Exec(ctx, step.statement, step.args...); err != nil {
			return err
		}
	}
	return nil
}

// flowBack moves the last use on in the table that is followed. If that fails, it is made up for
// at the next use. It is a transaction of its own, so that its failure takes nothing back. The
// log has at most one line a minute about it.
func (s *Store) flowBack(ctx context.Context, ids []pgtype.UUID) {
	_, err := s.exec(ctx, "SELECT {own}.flow_back($1)", ids)
	if err = explain("write last uses to the table that is followed", err); err != nil {
		s.backlog.Do(func() { s.logger.Warn("last uses do not flow back", slog.Any("error", err)) })
	}
}

// Activity implements [store.Activities].
//
// Each part is read by a statement of its own. The days come first and the row last, so that the
// times of the first and the last use are no older than the counts beside them. If the key is
// deleted in between, it is not found.
func (s *Store) Activity(ctx context.Context, id store.ID) (_ *store.Activity, err error) {
	ctx, end := s.call(ctx, "activity", "read the activity of a key")
	defer end(&err)
	db, err := s.database(ctx)
	if err != nil {
		return nil, err
	}
	days, err := collect(ctx, db, sqlstore.ScanDay, "SELECT day - date 'epoch', requests, denied FROM {own}.key_day "+
		"WHERE key_id = $1 AND day > (clock_timestamp() AT TIME ZONE 'UTC')::date - $2::int ORDER BY day", uuid(id), store.ActivityDays)
	if err != nil {
		return nil, err
	}
	networks, err := collect(ctx, db, sqlstore.ScanNetwork, "SELECT network::text, first_at, last_at, requests FROM {own}.key_network "+
		"WHERE key_id = $1 ORDER BY last_at DESC, network LIMIT $2", uuid(id), store.ActivityNetworks)
	if err != nil {
		return nil, err
	}
	asked, err := collect(ctx, db, sqlstore.ScanAsked, "SELECT permission, last_at FROM {own}.key_asked "+
		"WHERE key_id = $1 ORDER BY permission", uuid(id))
	if err != nil {
		return nil, err
	}
	a, err := sqlstore.ScanUsed(db.QueryRow(ctx,
		"SELECT first_at, last_used_at FROM {keys} LEFT JOIN {own}.key_activity ON key_id = id WHERE id = $1", uuid(id)))
	if err != nil {
		return nil, err
	}
	a.Days, a.Networks, a.Asked = days, networks, asked
	return a, nil
}

// Asked implements [store.Activities]. The primary key of the table begins with the key, so that
// it serves the search.
func (s *Store) Asked(ctx context.Context, ids []store.ID) (_ map[store.ID][]string, err error) {
	ctx, end := s.call(ctx, "asked", "read what was asked of keys")
	defer end(&err)
	db, err := s.database(ctx)
	if err != nil {
		return nil, err
	}
	asked := make(map[store.ID][]string)
	_, err = collect(ctx, db, func(row sqlstore.Row) (id store.ID, err error) {
		var permission string
		if err = row.Scan(sqlstore.ID(&id), &permission); err == nil {
			asked[id] = append(asked[id], permission)
		}
		return id, err
	}, "SELECT key_id, permission FROM {own}.key_asked WHERE key_id = ANY ($1)", uuids(append([]store.ID{}, ids...)))
	return asked, err
}

// reportNetworks has the rows that [sqlstore.Report] reads. It waits for nobody, so that it
// never waits in a circle with a deletion: the key's row of key_activity stands for all its
// rows, and the deletion takes that first.
const reportNetworks = `
WITH due AS MATERIALIZED (
    SELECT a.key_id FROM {own}.key_activity a
    WHERE a.key_id IN (SELECT key_id FROM {own}.key_network WHERE unreported)
        AND coalesce(a.reported_at, '-infinity') <= clock_timestamp() - $1::interval
        AND (SELECT count(*) FROM {own}.key_network o WHERE o.key_id = a.key_id) < $2
    FOR UPDATE SKIP LOCKED
), reported AS (
    UPDATE {own}.key_activity a SET reported_at = clock_timestamp() FROM due WHERE a.key_id = due.key_id
), told AS (
    UPDATE {own}.key_network n SET unreported = false FROM due WHERE n.key_id = due.key_id AND n.unreported
    RETURNING n.key_id, n.network, n.last_at
)
SELECT key_id, label, network::text, last_at FROM told JOIN {keys} ON id = key_id ORDER BY key_id, last_at DESC, network`

// ReportNetworks implements [store.Activities].
//
// The marks and the records are one transaction. Of two instances that report at once, the second
// one skips the rows that the first one has locked.
func (s *Store) ReportNetworks(
	ctx context.Context, record func(*store.NetworkReport) store.AuditRecord, sealer store.Sealer,
) (err error) {
	ctx, end := s.call(ctx, "report_networks", "report new networks")
	defer end(&err)
	return s.transact(ctx, func(tx *database) error {
		var report sqlstore.Report
		_, err := collect(ctx, tx, report.Scan, reportNetworks, store.NetworkReports, store.MaxActivity)
		if err != nil || len(report.Keys()) == 0 {
			return err
		}
		return appendAudit(ctx, tx, store.SharedChain, report.Records(record), sealer)
	})
}
