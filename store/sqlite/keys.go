package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// few is how many matches a filter may have for them to be fetched and sorted.
// Where it has more, the list is walked in order and filtered, which fills a
// page of the largest size within a million keys after some 20,000 rows.
const few = 5000

// Keys implements [store.Store].
func (s *Store) Keys(ctx context.Context, query *store.KeyQuery) (_ *store.KeyPage, err error) {
	ctx, end := s.calls.Begin(ctx, "keys")
	defer end(&err)
	if err := query.Check(); err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	page := &store.KeyPage{}
	var ranks []string
	err = s.read(ctx, "list keys", func(tx *sql.Tx) (err error) {
		if !query.Possible() {
			return nil
		}
		var how access
		if page.Total, how, err = count(ctx, tx, query); err != nil || page.Total == 0 {
			return err
		}
		page.Keys, ranks, err = fetch(ctx, tx, pageStatement(query, how))
		return err
	})
	if err != nil {
		return nil, err
	}
	page.Cut(query, ranks)
	return page, nil
}

// count returns how many keys the query's filters keep, and how best to reach
// them.
func count(ctx context.Context, tx *sql.Tx, query *store.KeyQuery) (total int, how access, err error) {
	number := func(how access, atMost int) (n int, err error) {
		s := countStatement(query, how, atMost)
		err = tx.QueryRowContext(ctx, s.text, s.args...).Scan(&n)
		return n, err
	}
	if query.Search == "" && query.UnusedSince.IsZero() {
		err = tx.QueryRowContext(ctx, "SELECT n FROM key_count").Scan(&total)
		return total, walk, err
	}
	gather := selective(query)
	if gather == walk {
		total, err = number(walk, 0)
		return total, walk, err
	}
	if total, err = number(gather, few+1); err != nil || total <= few {
		return total, gather, err
	}
	if gather == byTrigrams {
		// Scanning all labels is faster than joining long lists of trigrams.
		total, err = number(walk, 0)
	} else {
		total, err = number(gather, 0)
	}
	return total, walk, err
}

// fetch returns the rows of one page, and their ranks.
func fetch(ctx context.Context, tx *sql.Tx, s statement) (keys []store.Key, ranks []string, err error) {
	keys, err = collect(ctx, tx, func(row sqlstore.Row) (store.Key, error) {
		var rank string
		key, err := scanKey(row, &rank)
		if err != nil {
			return store.Key{}, err
		}
		ranks = append(ranks, rank)
		return *key, nil
	}, s.text, s.args...)
	return keys, ranks, err
}

// selectGranted passes over elements that are no text, which only another program
// could have written.
const selectGranted = `
SELECT DISTINCT p.value
FROM (
    SELECT permissions FROM system_keys INDEXED BY system_keys_by_created_at ORDER BY created_at DESC, id DESC LIMIT ?
) AS newest CROSS JOIN json_each(newest.permissions) AS p
WHERE p.type = 'text' ORDER BY p.value LIMIT ?`

// Granted implements [store.Store].
func (s *Store) Granted(ctx context.Context, keys int) (granted []string, err error) {
	ctx, end := s.calls.Begin(ctx, "granted")
	defer end(&err)
	permission := func(row sqlstore.Row) (permission string, err error) { return permission, row.Scan(&permission) }
	err = s.read(ctx, "list the permissions in use", func(tx *sql.Tx) error {
		granted, err = collect(ctx, tx, permission, selectGranted, max(0, keys), store.MaxGranted)
		return err
	})
	if err != nil {
		return nil, err
	}
	return append([]string{}, granted...), nil // never nil
}
