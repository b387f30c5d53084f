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

// TestTheRecordOfEachOfManyIsFoundByItsKey, although the statistics are from before all of
// them were revoked in one transaction.
func TestTheRecordOfEachOfManyIsFoundByItsKey(t *testing.T) {
	t.Parallel()
	s := empty(t)
	conn, err := s.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	const count = 400
	read := func() (rows int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relid = 'sidecar.audit_log'::regclass").Scan(&rows); err != nil {
			t.Fatal(err)
		}
		return rows
	}
	var before int
	for n, statement := range []string{
		`INSERT INTO system_keys (label, key_hash, permissions) SELECT 'a key', '$argon2id$v=19$m=64,t=1,p=1$YWJjZGVmZ2g$YWJjZGVmZ2g', '{}' FROM generate_series(1, $1)`,
		`INSERT INTO sidecar.audit_log (id, event, at, actor_type, actor, key_id)
SELECT gen_random_uuid(), 'api_key.created', now(), 'cli', 'cli', id FROM system_keys LIMIT $1`,
		"ANALYZE sidecar.audit_log",
		"SELECT pg_stat_force_next_flush()",
		`WITH gone AS (DELETE FROM system_keys WHERE id IN (SELECT id FROM system_keys LIMIT $1) RETURNING id)
INSERT INTO sidecar.audit_log (id, event, at, actor_type, actor, key_id) SELECT gen_random_uuid(), 'api_key.revoked', now(), 'cli', 'cli', id FROM gone`,
		"SELECT pg_stat_force_next_flush()",
	} {
		var args []any
		if strings.Contains(statement, "$1)") || strings.Contains(statement, "LIMIT $1") {
			args = append(args, count)
		}
		if n == 4 {
			before = read()
		}
		if _, err := conn.Exec(t.Context(), statement, args...); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if rows := read() - before; rows < count || rows > 3*count {
		t.Errorf("to revoke %d keys, %d records were read", count, rows)
	}
}

func BenchmarkAuditPage(b *testing.B) {
	storetest.BenchmarkLargeAudit(b, largeAudit(b))
}
