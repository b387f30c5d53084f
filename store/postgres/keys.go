package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// maxCounters is how many rows key_count may have before they are replaced by their sum.
const maxCounters = 500

// compactCount replaces the rows of key_count by their sum. If another instance is doing that,
// the lock is taken and nothing happens. Rows that others insert meanwhile are not seen by the
// statement, and stay.
const compactCount = `
WITH turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock($1) AS mine
), gone AS (
    DELETE FROM {own}.key_count WHERE (SELECT mine FROM turn) RETURNING delta
)
INSERT INTO {own}.key_count (delta) SELECT sum(delta) FROM gone HAVING count(*) > 0`

// Keys implements [store.Store].
//
// The count and the page are two statements, so a key that comes in between may be in one of them
// alone.
func (s *Store) Keys(ctx context.Context, query *store.KeyQuery) (_ *store.KeyPage, err error) {
	ctx, end := s.call(ctx, "keys", "list keys")
	defer end(&err)
	page, ranks, err := s.page(ctx, query)
	if err != nil {
		return nil, err
	}
	page.Cut(query, ranks)
	return page, nil
}

// page reads one row more than the page holds. A query for text that no row can have asks nothing.
func (s *Store) page(ctx context.Context, query *store.KeyQuery) (page *store.KeyPage, ranks []string, err error) {
	if err := query.Check(); err != nil {
		return nil, nil, err
	}
	if !query.Possible() {
		return &store.KeyPage{}, nil, ctx.Err()
	}
	db, err := s.database(ctx)
	if err != nil {
		return nil, nil, err
	}
	var kept, hidden, counters int
	count := countStatement(query)
	if err := db.QueryRow(ctx, count.text, count.args...).Scan(&kept, &hidden, &counters); err != nil {
		return nil, nil, err
	}
	if counters > maxCounters {
		// If it fails, the next list tries again.
		_, _ = db.Exec(ctx, compactCount, db.compaction())
	}
	page = &store.KeyPage{Total: kept - hidden}
	if page.Total == 0 {
		return page, nil, nil
	}
	list := pageStatement(query, accessFor(query, page.Total, hidden))
	rows, _ := db.Query(ctx, list.text, list.args...) // the rows return its error
	page.Keys, ranks, err = collectKeys(rows)
	return page, ranks, err
}

// accessFor returns the access for a list of this many keys, from which so many are hidden
// since they have expired.
func accessFor(query *store.KeyQuery, total, hidden int) access {
	unused, expiring := !query.UnusedSince.IsZero(), !query.ExpiringBefore.IsZero()
	// Nothing is filtered, or the index of the filter has the order of the list. So a walk
	// passes over hidden keys alone.
	inOrder := query.Search == "" && (!unused || query.Sort == store.SortLastUsedAt) && (!expiring || query.Sort == store.SortExpiresAt)
	if total > sqlstore.MaxSorted || inOrder && hidden <= sqlstore.MaxSorted {
		return walk
	}
	return gather
}

// collectKeys reads the rows of one page, and their ranks.
func collectKeys(rows pgx.Rows) (keys []store.Key, ranks []string, err error) {
	scan := sqlstore.Ranked(&ranks, scanKey)
	keys, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (store.Key, error) { return scan(row) })
	return keys, ranks, err
}

// selectGranted reads the newest keys by the index system_keys_by_created_at. The collation C
// orders by bytes, in every locale.
const selectGranted = `
SELECT DISTINCT p COLLATE "C" AS permission
FROM (
    SELECT permissions FROM {keys} ORDER BY created_at DESC, id DESC LIMIT $1
) AS newest, unnest(newest.permissions) AS p
ORDER BY permission LIMIT $2`

// Granted implements [store.Store].
func (s *Store) Granted(ctx context.Context, keys int) (_ []string, err error) {
	ctx, end := s.call(ctx, "granted", "list the permissions in use")
	defer end(&err)
	db, err := s.database(ctx)
	if err != nil {
		return nil, err
	}
	rows, _ := db.Query(ctx, selectGranted, max(0, keys), store.MaxGranted) // the rows return its error
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
