package sqlite

import (
	"context"
	"database/sql"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store/storetest"
)

// empty opens a store for a test to fill.
func empty(tb testing.TB) *Store {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	s, err := Open(ctx, filepath.Join(tb.TempDir(), "keys.db"), Options{})
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

// large opens a store with many keys, as storetest.LargeRows describes them.
func large(tb testing.TB) *Store {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	s := empty(tb)
	err := s.write(ctx, "fill", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
WITH RECURSIVE n (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
INSERT INTO system_keys (id, label, permissions, key_hash, created_at, last_used_at, expires_at)
SELECT lower(format('019b%s-7%s-8%s-%012x', substr(hex(randomblob(4)), 1, 4) || '-' || hex(randomblob(2)), substr(hex(randomblob(2)), 2),
        substr(hex(randomblob(2)), 2), (i + 1) * 2688698572773 % (1 << 48))),
    format('service %d worker %08x', i % 1000, i),
    iif(i % 10 = 0, '[]', format('["area-%d:read","area-%d:write"]', i % 1000, i % 1000)),
    '$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$' || hex(randomblob(21)),
    ?2 + i * 1000000, iif(i % 1000 = 0, 0, ?2 + i * 7919 % ?1 * 1000000),
    iif(i % 10 = 0, 0, ?2 + i * 7907 % ?1 * 1000000)
FROM n`, storetest.LargeRows(), storetest.LargeEpoch.UnixMicro())
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestLargeListsUseTheirIndexes(t *testing.T) {
	t.Parallel()
	s := large(t)
	storetest.Large(t, s)
	storetest.LargeAdoption(t, s)
	for _, q := range storetest.LargeQueries() {
		err := s.read(t.Context(), "explain", func(tx *sql.Tx) error {
			total, how, err := count(t.Context(), tx, &q.Query)
			if err != nil {
				return err
			}
			steps, err := plan(t.Context(), tx, pageStatement(&q.Query, how))
			if err != nil {
				return err
			}
			index := order[q.Query.Sort].index
			switch detail := strings.Join(steps, "; "); {
			case q.Unindexed() && how == walk:
				if !slices.Contains(steps, "SCAN system_keys") || strings.Count(detail, "system_keys") > 1 {
					t.Errorf("%s: reads the table otherwise than once: %s", q.Name, detail)
				}
			case slices.Contains(steps, "SCAN system_keys"):
				t.Errorf("%s: scans the table: %s", q.Name, detail)
			case how == walk && !strings.Contains(detail, index):
				t.Errorf("%s: does not walk the index %s: %s", q.Name, index, detail)
			case how == walk && strings.Contains(detail, "B-TREE"):
				t.Errorf("%s: sorts: %s", q.Name, detail)
			case how == walk && q.Query.After != nil && !strings.Contains(detail, "SEARCH system_keys USING INDEX "+index):
				t.Errorf("%s: does not begin at the cursor: %s", q.Name, detail)
			case how != walk && total > sqlstore.MaxSorted:
				t.Errorf("%s: sorts %d keys: %s", q.Name, total, detail)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// plan returns the steps of a statement's query plan.
func plan(ctx context.Context, tx *sql.Tx, s statement) (steps []string, err error) {
	rows, err := tx.QueryContext(ctx, "EXPLAIN QUERY PLAN "+s.text, s.args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			return nil, err
		}
		steps = append(steps, detail)
	}
	return steps, rows.Err()
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
