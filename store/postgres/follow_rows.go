package postgres

import (
	"context"
	"slices"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
)

// A batch waits for a lock for lockWait at most, and each of its statements takes no longer. That
// is less than the time after which a server looks for deadlocks by default (deadlock_timeout). So
// if a transaction of the other service waits in a circle with a batch, it is as a rule the batch
// that ends.

// batch brings some rows over, those behind an id. It returns the last id, or nil if there
// are no more rows.
type batch func(ctx context.Context, tx *database, after *string, limit int) (rows, added int, last *string, err error)

// carryAll runs batches until there are no more rows. After an error that may pass it waits, and
// tries again with half as many rows. Progress gets the number of rows that were read so far.
func (s *Store) carryAll(ctx context.Context, do batch, progress func(rows int)) (added int, err error) {
	limit, total := batchRows, 0
	for after := (*string)(nil); ; {
		var rows, fresh int
		var last *string
		err := s.onTheirTable(ctx, func(tx *database) (err error) {
			if _, err = tx.Exec(ctx, briefly); err == nil {
				rows, fresh, last, err = do(ctx, tx, after, limit)
			}
			return err
		})
		switch failed := code(err); {
		case err == nil && last == nil:
			return added, nil
		case err == nil:
			after, total, added = last, total+rows, added+fresh
			progress(total)
		case failed != "" && slices.Contains(passing, failed):
			limit = max(1, limit/2)
			if err := pause(ctx, err); err != nil {
				return added, err
			}
		default:
			return added, err
		}
	}
}

// rowsBehind selects their rows behind the id $1, which may be NULL, $2 at most, as b, and
// locks them. Place has their ids as they were before, since a row may get another id while
// the lock is waited for. The trigger carries that row over.
func (p *pursuit) rowsBehind(after *string, lock string) string {
	condition := "$1::text IS NULL AND " + p.id + " IS NOT NULL"
	if after != nil {
		condition = p.id + " > $1::" + p.layout.Columns[0].Kind
	}
	return "WITH place AS MATERIALIZED (SELECT " + p.id + " AS id FROM " + p.layout.Table + " AS theirs WHERE " + condition +
		" ORDER BY " + p.id + " LIMIT $2), b AS MATERIALIZED (SELECT " + p.arguments[2] + " FROM " + p.layout.Table + " AS theirs WHERE " +
		p.id + " IN (SELECT id FROM place) " + lock + ")"
}

// readPlace are the columns of how many rows were read, and of the last id. The id is text, in the
// form in which the next batch takes it.
const readPlace = "(SELECT count(*) FROM place), (SELECT format('%s', id) FROM place ORDER BY id DESC LIMIT 1)"

// fittedRow are the columns of b in the order in which {own}.fit and {own}.carry take them.
const fittedRow = "b.id, b.label, b.hash, b.permissions, b.created_at, b.last_used_at, b.expires_at"

// insertBatch inserts the rows that are not there. A row that is deleted meanwhile is not
// read, or its deletion waits for the batch and finds the key. One that is changed
// meanwhile is left to the trigger.
//
// A row that does not fit is noted with the reason, and left out. The reason repeats nothing of it.
func (p *pursuit) insertBatch(ctx context.Context, tx *database, after *string, limit int) (rows, added int, last *string, err error) {
	var inserted []string
	err = tx.runner.QueryRow(ctx, tx.words.Replace(p.rowsBehind(after, "FOR KEY SHARE")+`, fitted AS MATERIALIZED (
    SELECT b.*, f.key, f.name, f.granted, CASE
        WHEN f.problem IS NOT NULL THEN f.problem
        WHEN EXISTS (SELECT FROM {keys} k WHERE k.id = f.key AND (k.minted OR k.created_by <> 'import')) THEN
            'id belongs to a key that did not come from this table'
        WHEN {own}.revoked_here(f.key) THEN 'id was revoked here' END AS why
    FROM b, {own}.fit(`+fittedRow+`, $3) AS f
), inserted AS (
    INSERT INTO {keys} (id, label, key_hash, permissions, created_at, created_by, expires_at, last_used_at)
    SELECT key, name, hash, granted, coalesce(created_at, now()), 'import', expires_at, last_used_at FROM fitted WHERE why IS NULL
    ON CONFLICT (id) DO NOTHING RETURNING id
), noted AS (
    INSERT INTO {own}.follow_unfit AS u (id, why)
    SELECT DISTINCT ON (1) {own}.shown_id(id), why FROM fitted WHERE why IS NOT NULL
    ON CONFLICT (id) DO UPDATE SET why = excluded.why, at = excluded.at
)
SELECT `+readPlace+`, ARRAY(SELECT id::text FROM inserted)`),
		after, limit, p.arguments[3] == "true").Scan(&rows, &last, &inserted)
	if err != nil {
		return 0, 0, nil, err
	}
	// What was revoked here after the statement began.
	_, err = tx.Exec(ctx, "DELETE FROM {keys} WHERE id = ANY ($1::uuid[]) AND {own}.revoked_here(id)", inserted)
	return rows, len(inserted), last, err
}

// catchUp makes the rows that came before the triggers as theirs are now.
//
// One last transaction ends the keys whose rows are gone, and marks the follow as trusted.
func (s *Store) catchUp(ctx context.Context, p *pursuit, progress func(rows int)) error {
	// FOR SHARE waits for an update that is under way.
	_, err := s.carryAll(ctx, func(ctx context.Context, tx *database, after *string, limit int) (rows, _ int, last *string, err error) {
		err = tx.runner.QueryRow(ctx, tx.words.Replace(p.rowsBehind(after, "FOR SHARE")+
			", carried AS MATERIALIZED (SELECT {own}.carry("+fittedRow+", $3, false) FROM b) "+
			"SELECT "+readPlace+" FROM (SELECT count(*) FROM carried) AS all_of_them"),
			after, limit, p.arguments[3] == "true").Scan(&rows, &last)
		return rows, 0, last, err
	}, progress)
	if err != nil {
		return err
	}
	return s.onTheirTable(ctx, func(tx *database) error {
		ids, err := collect(ctx, tx, sqlstore.ScanText, "SELECT k.id::text FROM {keys} k WHERE "+p.stray())
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "SELECT {own}.end_followed(id) FROM unnest($1::text[]) AS gone (id)", ids); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE {own}.follow SET caught_up = true, trusted = true")
		return err
	})
}

// briefly bounds each wait for a lock, and each statement, until the end of the transaction.
var briefly = strings.ReplaceAll("SET LOCAL lock_timeout = '{wait}'; SET LOCAL statement_timeout = '{wait}'", "{wait}", lockWait.String())
