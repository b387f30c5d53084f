package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Keys implements [store.Store].
//
// The count and the page are of one state. The page reads one row more than it has, which tells
// whether there is a next page.
func (s *Store) Keys(ctx context.Context, query *store.KeyQuery) (_ *store.KeyPage, err error) {
	ctx, end := s.calls.Begin(ctx, "keys")
	defer end(&err)
	if err := query.Check(); err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	return result(ctx, s.read, "list keys", func(tx *sql.Tx) (*store.KeyPage, error) {
		page := &store.KeyPage{}
		if !query.Possible() {
			return page, nil
		}
		total, how, err := count(ctx, tx, query)
		if err != nil || total == 0 {
			return page, err
		}
		page.Total = total
		list := pageStatement(query, how)
		var ranks []string
		page.Keys, err = collect(ctx, tx, sqlstore.Ranked(&ranks, scanKey), list.text, list.args...)
		if err != nil {
			return nil, err
		}
		page.Cut(query, ranks)
		return page, nil
	})
}

// count returns how many keys the query's filters keep, and the fastest access to them.
// Nearly no key has expired, so it takes less time to count these than to look at the expiry
// of all others.
func count(ctx context.Context, tx *sql.Tx, query *store.KeyQuery) (total int, how access, err error) {
	if query.LiveAt.IsZero() || !query.ExpiringBefore.IsZero() {
		return countKept(ctx, tx, query)
	}
	// The keys that have expired are the few rows at one end of the index by expiry.
	all, hidden := *query, 0
	all.LiveAt = time.Time{}
	s := hiddenStatement(&all, query.LiveAt)
	if err := tx.QueryRowContext(ctx, s.text, s.args...).Scan(&hidden); err != nil {
		return 0, walk, err
	}
	total, how, err = countKept(ctx, tx, &all)
	total -= hidden
	if how == walk && hidden > sqlstore.MaxSorted && total <= sqlstore.MaxSorted {
		how = byExpiry // a walk would pass over the hidden keys
	}
	return total, how, err
}

// countKept counts the keys that the filters keep, and returns the access for the page. Without a
// filter it reads the counter that the triggers keep. If an index finds the rows of a filter, it
// first counts little further than [sqlstore.MaxSorted]: up to there the rows are gathered and
// sorted. If there are more, it counts again without a bound, and the page is a walk.
func countKept(ctx context.Context, tx *sql.Tx, query *store.KeyQuery) (total int, how access, err error) {
	countRows := func(how access, atMost int) (n int, err error) {
		s := countStatement(query, how, atMost)
		err = tx.QueryRowContext(ctx, s.text, s.args...).Scan(&n)
		return n, err
	}
	if query.Search == "" && query.UnusedSince.IsZero() && query.ExpiringBefore.IsZero() {
		err = tx.QueryRowContext(ctx, "SELECT n FROM key_count").Scan(&total)
		return total, walk, err
	}
	gather := selective(query)
	if gather == walk {
		total, err = countRows(walk, 0)
		return total, walk, err
	}
	if total, err = countRows(gather, sqlstore.MaxSorted+1); err != nil || total <= sqlstore.MaxSorted {
		return total, gather, err
	}
	if gather == byTrigrams {
		// Scanning all labels is faster than joining long lists of trigrams.
		total, err = countRows(walk, 0)
	} else {
		total, err = countRows(gather, 0)
	}
	return total, walk, err
}

// selectGranted skips elements that are not text. Only another program could have written
// those.
const selectGranted = `
SELECT DISTINCT p.value
FROM (
    SELECT permissions FROM system_keys INDEXED BY system_keys_by_created_at ORDER BY created_at DESC, id DESC LIMIT ?
) AS newest CROSS JOIN json_each(newest.permissions) AS p
WHERE p.type = 'text' ORDER BY p.value LIMIT ?`

// Granted implements [store.Store]. The limit of keys bounds what is read, however many keys
// there are.
func (s *Store) Granted(ctx context.Context, keys int) (_ []string, err error) {
	ctx, end := s.calls.Begin(ctx, "granted")
	defer end(&err)
	return result(ctx, s.read, "list the permissions in use", func(tx *sql.Tx) ([]string, error) {
		granted, err := collect(ctx, tx, sqlstore.ScanText, selectGranted, max(0, keys), store.MaxGranted)
		return append([]string{}, granted...), err // never nil
	})
}
