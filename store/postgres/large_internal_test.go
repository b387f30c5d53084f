package postgres

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/storetest"
)

// empty opens a store for a test to fill.
func empty(tb testing.TB) *Store {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	s, err := Open(ctx, testenv.Database(tb), Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	if err := s.Migrate(ctx); err != nil {
		tb.Fatal(err)
	}
	return s
}

// names returns the database of a migrated store.
func names(tb testing.TB, s *Store) *database {
	tb.Helper()
	db, err := s.database(context.WithoutCancel(tb.Context()))
	if err != nil {
		tb.Fatal(err)
	}
	return db
}

// large opens a store with many keys, as storetest.LargeRows describes them.
func large(tb testing.TB) *Store {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	s := empty(tb)
	_, err := s.pool.Exec(ctx, `
INSERT INTO system_keys (id, label, permissions, key_hash, created_at, last_used_at, expires_at)
SELECT ('019b' || substr(gen_random_uuid()::text, 5, 20) || lpad(to_hex((i + 1) * 2688698572773 % (1::bigint << 48)), 12, '0'))::uuid, format('service %s worker %s', i % 1000, lpad(to_hex(i), 8, '0')),
    CASE WHEN i % 10 = 0 THEN '{}' ELSE ARRAY[format('area-%s:read', i % 1000), format('area-%s:write', i % 1000)] END,
    '$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$' || md5(i::text), $2::timestamptz + i * interval '1 second',
    CASE WHEN i % 1000 <> 0 THEN $2::timestamptz + i * 7919::bigint % $1 * interval '1 second' END,
    CASE WHEN i % 10 <> 0 THEN $2::timestamptz + i * 7907::bigint % $1 * interval '1 second' END
FROM generate_series(0, $1::int - 1) AS i`, storetest.LargeRows(), storetest.LargeEpoch)
	if err != nil {
		tb.Fatal(err)
	}
	for _, table := range []string{"system_keys", "sidecar.label_search"} { // as autovacuum does in time
		if _, err := s.pool.Exec(ctx, "VACUUM ANALYZE "+table); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

func TestLargeListsUseTheirIndexes(t *testing.T) {
	t.Parallel()
	s := large(t)
	storetest.Large(t, s)
	storetest.LargeAdoption(t, s)
	indexes := map[store.SortField]string{
		store.SortCreatedAt:  "using system_keys_by_created_at ",
		store.SortLabel:      "using system_keys_by_label ",
		store.SortLastUsedAt: "using system_keys_by_last_used_at ",
		store.SortExpiresAt:  "using system_keys_by_expires_at ",
	}
	atCursor := regexp.MustCompile(`Index Cond: .*\(ROW\(`)
	for _, q := range storetest.LargeQueries() {
		var kept, hidden, counters int
		count := countStatement(&q.Query)
		if err := names(t, s).QueryRow(t.Context(), count.text, count.args...).Scan(&kept, &hidden, &counters); err != nil {
			t.Fatal(err)
		}
		plan := strings.ReplaceAll(explainPlan(t, s, count), "Seq Scan on key_count", "")
		if !q.Scans && strings.Contains(plan, "Seq Scan") {
			t.Errorf("%s: scans a table to count:\n%s", q.Name, plan)
		}
		total := kept - hidden
		how := accessFor(&q.Query, total, hidden)
		plan = explainPlan(t, s, pageStatement(&q.Query, how))
		switch {
		case q.Unindexed() && how == walk:
			if strings.Count(plan, "system_keys") != 1 || strings.Count(plan, "Sort") != 2 {
				t.Errorf("%s: reads the table otherwise than once, or sorts it otherwise:\n%s", q.Name, plan)
			}
		case strings.Contains(plan, "Seq Scan"):
			t.Errorf("%s: scans a table:\n%s", q.Name, plan)
		case how == walk && !strings.Contains(plan, indexes[q.Query.Sort]):
			t.Errorf("%s: does not walk the index of its order:\n%s", q.Name, plan)
		case how == walk && strings.Contains(plan, "Sort"):
			t.Errorf("%s: sorts:\n%s", q.Name, plan)
		case how == walk && q.Query.After != nil && !atCursor.MatchString(plan):
			t.Errorf("%s: does not begin at the cursor:\n%s", q.Name, plan)
		case how == gather && total > sqlstore.MaxSorted:
			t.Errorf("%s: sorts %d keys:\n%s", q.Name, total, plan)
		}
	}
}

// explainPlan returns a statement's query plan for its arguments.
func explainPlan(tb testing.TB, s *Store, statement *statement) string {
	tb.Helper()
	rows, err := names(tb, s).Query(tb.Context(), "EXPLAIN (COSTS OFF) "+statement.text, statement.args...)
	if err != nil {
		tb.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		tb.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func BenchmarkKeysPage(b *testing.B) {
	storetest.BenchmarkLarge(b, large(b))
}

func BenchmarkGranted(b *testing.B) {
	storetest.BenchmarkGranted(b, large(b))
}

func BenchmarkRecordUse(b *testing.B) {
	storetest.BenchmarkUse(b, large(b))
}
