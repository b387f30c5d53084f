package sqlite

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store/storetest"
)

// largeAudit opens a store with a long log, as storetest.LargeAuditRows describes
// it.
func largeAudit(tb testing.TB) *Store {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	s := empty(tb)
	err := s.write(ctx, "fill", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
WITH RECURSIVE n (i, ms, k) AS (
    SELECT 0, ?2 / 1000, 0
    UNION ALL
    SELECT i + 1, ?2 / 1000 + i + 1, iif((i + 1) % 2 = 0, 0, (i + 1) % 1000) FROM n WHERE i + 1 < ?1
)
INSERT INTO audit_log (id, event, at, actor_type, actor, actor_label, key_id, key_label, method, path, status)
SELECT format('%08x-%04x-7000-8000-%012x', ms >> 16, ms & 0xffff, i), iif(i % 5000 = 1, 'api_key.denied', 'api_key.used'), ms * 1000,
    'system_key', format('00000000-0000-7000-8000-%012x', k), format('Service %d', k), format('00000000-0000-7000-8000-%012x', k),
    format('Service %d', k), 'POST', '/v1/work', 200
FROM n`, storetest.LargeAuditRows(), storetest.LargeEpoch.UnixMicro())
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestALargeAuditLogUsesItsIndexes(t *testing.T) {
	t.Parallel()
	s := largeAudit(t)
	storetest.LargeAuditLog(t, s)
	for _, q := range storetest.LargeAuditQueries() {
		from, below := q.Query.Range()
		span := sqlstore.AuditSpan{NewestFrom: from, NewestBelow: below, OldestBelow: below}
		for what, statement := range map[string]statement{
			"list": auditRows(&q.Query, &span, q.Query.Limit+1), "count": auditCount(&q.Query, &span),
		} {
			err := s.read(t.Context(), "explain", func(tx *sql.Tx) error {
				steps, err := plan(t.Context(), tx, statement)
				for i, step := range steps {
					if strings.HasPrefix(step, "SCAN audit_log") && q.Name != "all" {
						t.Errorf("%s: %s: scans the log: %v", q.Name, what, steps)
					}
					// The few that each part has found may be sorted.
					if strings.HasPrefix(step, "SEARCH audit_log") && i+1 < len(steps) && strings.Contains(steps[i+1], "B-TREE") {
						t.Errorf("%s: %s: sorts: %v", q.Name, what, steps)
					}
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func BenchmarkAuditPage(b *testing.B) {
	storetest.BenchmarkLargeAudit(b, largeAudit(b))
}
