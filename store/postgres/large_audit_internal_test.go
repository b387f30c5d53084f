package postgres

import (
	"context"
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
	_, err := s.pool.Exec(ctx, `
INSERT INTO sidecar.audit_log (id, event, at, actor_type, actor, actor_label, key_id, key_label, method, path, status)
SELECT (lpad(to_hex(ms), 12, '0') || '70008000' || lpad(to_hex(i), 12, '0'))::uuid,
    CASE WHEN i % 5000 = 1 THEN 'api_key.denied' ELSE 'api_key.used' END, to_timestamp(ms / 1000.0),
    'system_key', '00000000-0000-7000-8000-' || lpad(to_hex(k), 12, '0'), 'Service ' || k,
    ('00000000-0000-7000-8000-' || lpad(to_hex(k), 12, '0'))::uuid, 'Service ' || k, 'POST', '/v1/work', 200
FROM (
    SELECT i, $2::bigint + i AS ms, CASE WHEN i % 2 = 0 THEN 0 ELSE i % 1000 END AS k FROM generate_series(0, $1::int - 1) AS i
) AS n`, storetest.LargeAuditRows(), storetest.LargeEpoch.UnixMilli())
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := s.pool.Exec(ctx, "VACUUM ANALYZE sidecar.audit_log"); err != nil { // as autovacuum does in time
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
		list, count := auditRows(&q.Query, &span, q.Query.Limit+1), auditCount(&q.Query, &span)
		for what, statement := range map[string]*statement{"list": &list, "count": &count} {
			plan := explainPlan(t, s, statement)
			if strings.Contains(plan, "Seq Scan") && (what == "list" || q.Total < storetest.LargeAuditRows()/10) {
				t.Errorf("%s: %s: scans the log:\n%s", q.Name, what, plan)
			}
		}
	}
}

func BenchmarkAuditPage(b *testing.B) {
	storetest.BenchmarkLargeAudit(b, largeAudit(b))
}
