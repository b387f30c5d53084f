package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// The statements of [Store.RecordUse] take rows as a JSON array of arrays, keys by their id
// in the first place. WHERE also tells the parser that ON does not belong to a join
// (https://sqlite.org/lang_upsert.html section 2.2).
const (
	// living is the source of the rows whose keys are there. No key can go before the commit.
	living = " FROM json_each(?1) WHERE value ->> 0 IN (SELECT id FROM system_keys) "

	// recordFirstUse comes before recordLastUse. For a key that was used before its activity
	// was kept, the last use is the first that is known.
	recordFirstUse = `
INSERT INTO key_activity (key_id, first_at)
SELECT k.id, min(min(u.value ->> 1), iif(k.last_used_at > 0, k.last_used_at, min(u.value ->> 1)))
FROM json_each(?1) AS u JOIN system_keys k ON k.id = u.value ->> 0 WHERE true
GROUP BY k.id
ON CONFLICT (key_id) DO UPDATE SET first_at = min(first_at, excluded.first_at)`

	// recordLastUse only moves the last use on, so the order of batches does not matter. The
	// trigger of the change log does not look at this column.
	recordLastUse = `
UPDATE system_keys SET last_used_at = uses.at
FROM (SELECT value ->> 0 AS id, max(value ->> 2) AS at FROM json_each(?1) GROUP BY 1) AS uses
WHERE system_keys.id = uses.id AND system_keys.last_used_at < uses.at`

	// endReplaced comes before recordLastUse. It ends the keys whose successors were used for
	// the first time. ?2 is the time now.
	endReplaced = `
UPDATE system_keys AS old SET expires_at = min(old.ends_at, ?2 + 1000 * max(old.grace_ms, (SELECT coalesce(max(ttl_ms), 0) FROM member)))
FROM json_each(?1) AS u JOIN system_keys AS successor ON successor.id = u.value ->> 0
WHERE successor.last_used_at = 0 AND old.id = successor.replaces AND old.replaced_by = successor.id`

	// recordDays, recordNetworks and recordAsked group the rows of a batch first: it may have
	// several of one key about the same day, network or permission.
	recordDays = `
INSERT INTO key_day (key_id, day, requests, denied)
SELECT value ->> 0, value ->> 1, sum(value ->> 2), sum(value ->> 3)` + living + `
GROUP BY 1, 2
ON CONFLICT (key_id, day) DO UPDATE SET requests = requests + excluded.requests, denied = denied + excluded.denied`

	// endDays takes ?2 as the first day that is kept. It looks at the keys of the batch alone:
	// those of others end at their next use.
	endDays = `DELETE FROM key_day WHERE key_id IN (SELECT value ->> 0 FROM json_each(?1)) AND day < ?2`

	// recordNetworks takes ?2 as the time after which a network is new again. The very first
	// network of a key is not new.
	recordNetworks = `
INSERT INTO key_network (key_id, network, first_at, last_at, requests, unreported)
SELECT value ->> 0, value ->> 1, min(value ->> 2), max(value ->> 3), sum(value ->> 4),
    row_number() OVER (PARTITION BY value ->> 0 ORDER BY min(value ->> 2), value ->> 1) > 1
        OR EXISTS (SELECT 1 FROM key_network n WHERE n.key_id = value ->> 0)` + living + `
GROUP BY 1, 2
ON CONFLICT (key_id, network) DO UPDATE SET
    unreported = unreported OR excluded.first_at - last_at > ?2,
    first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at),
    requests = requests + excluded.requests`

	// recordAsked keeps the time of the last request for each permission.
	recordAsked = `
INSERT INTO key_asked (key_id, permission, last_at)
SELECT value ->> 0, value ->> 1, max(value ->> 2)` + living + `
GROUP BY 1, 2
ON CONFLICT (key_id, permission) DO UPDATE SET last_at = max(last_at, excluded.last_at)`

	// These take ?2 as how many rows of a key are kept.
	endNetworks = `
DELETE FROM key_network WHERE (key_id, network) IN (
    SELECT key_id, network FROM (
        SELECT key_id, network, row_number() OVER (PARTITION BY key_id ORDER BY last_at DESC, network) AS place
        FROM key_network WHERE key_id IN (SELECT value ->> 0 FROM json_each(?1))
    ) WHERE place > ?2)`
	endAsked = `
DELETE FROM key_asked WHERE (key_id, permission) IN (
    SELECT key_id, permission FROM (
        SELECT key_id, permission, row_number() OVER (PARTITION BY key_id ORDER BY last_at DESC, permission) AS place
        FROM key_asked WHERE key_id IN (SELECT value ->> 0 FROM json_each(?1))
    ) WHERE place > ?2)`
)

// RecordUse implements [store.Store].
//
// All steps are one transaction. The first use and the end of the replaced key come before the
// last use, since they read the last use as it was. Without anything to write it takes no
// writer's turn.
func (s *Store) RecordUse(ctx context.Context, uses []store.Use) (err error) {
	ctx, end := s.calls.Begin(ctx, "record_use")
	defer end(&err)
	now := s.now()
	rows := sqlstore.UsesOf(uses, now)
	if rows.Empty() {
		return s.ping(ctx)
	}
	var keys, days, networks, asked [][]any
	for _, r := range rows.Keys {
		if !r.At.IsZero() {
			keys = append(keys, []any{r.ID, r.First.UnixMicro(), r.At.UnixMicro()})
		}
	}
	for _, r := range rows.Days {
		days = append(days, []any{r.ID, int32(r.Day), r.Requests, r.Denied})
	}
	for _, r := range rows.Networks {
		networks = append(networks, []any{r.ID, r.Network, r.FirstAt.UnixMicro(), r.LastAt.UnixMicro(), r.Requests})
	}
	for _, r := range rows.Asked {
		asked = append(asked, []any{r.ID, r.Permission, r.LastAt.UnixMicro()})
	}
	return s.write(ctx, "record use", func(tx *sql.Tx) error {
		for _, step := range []struct {
			rows      [][]any
			statement string
			args      []any
		}{
			{keys, recordFirstUse, nil},
			{keys, endReplaced, []any{now.UnixMicro()}},
			{keys, recordLastUse, nil},
			{days, recordDays, nil},
			{days, endDays, []any{int32(sqlstore.Oldest(now))}},
			{networks, recordNetworks, []any{store.NetworkForgotten.Microseconds()}},
			{networks, endNetworks, []any{store.MaxActivity}},
			{asked, recordAsked, nil},
			{asked, endAsked, []any{store.MaxActivity}},
		} {
			if len(step.rows) == 0 {
				continue
			}
			// One argument takes all rows, and one statement writes them.
			batch, err := json.Marshal(step.rows)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, step.statement, append([]any{string(batch)}, step.args...)...); err != nil {
				return err
			}
		}
		return nil
	})
}

// Activity implements [store.Activities].
//
// All parts are of one state. A key that was never used has zero times.
func (s *Store) Activity(ctx context.Context, id store.ID) (_ *store.Activity, err error) {
	ctx, end := s.calls.Begin(ctx, "activity")
	defer end(&err)
	return result(ctx, s.readFollowed, "read the activity of a key", func(tx *sql.Tx) (*store.Activity, error) {
		key := id.String()
		a, err := sqlstore.ScanUsed(tx.QueryRowContext(ctx, "SELECT coalesce(first_at, 0), last_used_at FROM system_keys "+
			"LEFT JOIN key_activity ON key_id = id WHERE id = ?", key))
		if err != nil {
			return nil, err
		}
		a.Days, err = collect(ctx, tx, sqlstore.ScanDay, "SELECT day, requests, denied FROM key_day "+
			"WHERE key_id = ? AND day >= ? ORDER BY day", key, int32(sqlstore.Oldest(s.now())))
		if err != nil {
			return nil, err
		}
		a.Networks, err = collect(ctx, tx, sqlstore.ScanNetwork, "SELECT network, first_at, last_at, requests FROM key_network "+
			"WHERE key_id = ? ORDER BY last_at DESC, network LIMIT ?", key, store.ActivityNetworks)
		if err != nil {
			return nil, err
		}
		a.Asked, err = collect(ctx, tx, sqlstore.ScanAsked, "SELECT permission, last_at FROM key_asked "+
			"WHERE key_id = ? ORDER BY permission", key)
		return a, err
	})
}

// Asked implements [store.Activities]. The primary key of the table begins with the key, so that
// it serves the search.
func (s *Store) Asked(ctx context.Context, ids []store.ID) (_ map[store.ID][]string, err error) {
	ctx, end := s.calls.Begin(ctx, "asked")
	defer end(&err)
	return result(ctx, s.read, "read what was asked of keys", func(tx *sql.Tx) (map[store.ID][]string, error) {
		asked := make(map[store.ID][]string)
		_, err := collect(ctx, tx, func(row sqlstore.Row) (id store.ID, err error) {
			var permission string
			if err = row.Scan(sqlstore.ID(&id), &permission); err == nil {
				asked[id] = append(asked[id], permission)
			}
			return id, err
		}, "SELECT key_id, permission FROM key_asked WHERE key_id IN (SELECT value FROM json_each(?))", jsonIDs(ids))
		return asked, err
	})
}

// due are the unreported networks of the keys that were reported not after ?1. ?2 is how many
// networks of a key are kept.
const due = ` FROM key_network n JOIN key_activity a ON a.key_id = n.key_id JOIN system_keys k ON k.id = n.key_id
    WHERE n.unreported = 1 AND coalesce(a.reported_at, 0) <= ?1
        AND (SELECT count(*) FROM key_network o WHERE o.key_id = n.key_id) < ?2`

// ReportNetworks implements [store.Activities].
//
// The look, the marks and the records are one transaction of the writer, so of two instances one
// reports. It looks again there: another process may have reported since the first look.
func (s *Store) ReportNetworks(
	ctx context.Context, record func(*store.NetworkReport) store.AuditRecord, sealer store.Sealer,
) (err error) {
	ctx, end := s.calls.Begin(ctx, "report_networks")
	defer end(&err)
	const what = "report new networks"
	now := s.now()
	before := now.Add(-store.NetworkReports).UnixMicro()
	// Mostly there is nothing to do, and a look costs no writer's turn.
	there, err := result(ctx, s.read, what, func(tx *sql.Tx) (there bool, err error) {
		err = tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1"+due+")", before, store.MaxActivity).Scan(&there)
		return there, err
	})
	if err != nil || !there {
		return err
	}
	return s.write(ctx, what, func(tx *sql.Tx) error {
		var report sqlstore.Report
		_, err := collect(ctx, tx, report.Scan, "SELECT n.key_id, k.label, n.network, n.last_at"+due+
			" ORDER BY n.key_id, n.last_at DESC, n.network", before, store.MaxActivity)
		if err != nil {
			return err
		}
		reported := jsonIDs(report.Keys())
		_, err = tx.ExecContext(ctx, "UPDATE key_activity SET reported_at = ?2 WHERE key_id IN (SELECT value FROM json_each(?1))",
			reported, now.UnixMicro())
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE key_network SET unreported = 0 WHERE unreported = 1 "+
			"AND key_id IN (SELECT value FROM json_each(?))", reported)
		if err != nil {
			return err
		}
		return appendAudit(ctx, tx, store.SharedChain, report.Records(record), sealer)
	})
}
