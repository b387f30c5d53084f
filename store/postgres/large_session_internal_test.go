package postgres

import (
	"strings"
	"testing"
	"time"
)

// smallTables takes the scans of tables out of a plan that are short: what is followed is one
// row, and its triggers are looked for in the catalog.
var smallTables = strings.NewReplacer(
	"Seq Scan on follow", "follow", "Seq Scan on pg_trigger", "pg_trigger", "Seq Scan on pg_namespace", "pg_namespace")

// TestManySessionsAreFoundByTheirIndexes looks at how the statements are carried
// out where there are many sessions, nonces and keys.
func TestManySessionsAreFoundByTheirIndexes(t *testing.T) {
	t.Parallel()
	s := large(t)
	for _, statement := range []string{
		`INSERT INTO sidecar.session (digest, key_id, key_proof, expires_at)
SELECT sha256(k.id::text::bytea), k.id, sha256(convert_to(k.key_hash, 'UTF8')), k.created_at FROM system_keys k`,
		"INSERT INTO sidecar.nonce (digest, expires_at) SELECT digest, expires_at FROM sidecar.session",
		"VACUUM ANALYZE sidecar.session", "VACUUM ANALYZE sidecar.nonce",
	} {
		if _, err := s.pool.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	var digest [32]byte
	now := time.Now()
	for _, c := range []struct {
		name    string
		s       statement
		indexes []string
	}{
		{"read", statement{selectSession, []any{digest[:], now, 1, 1, ""}}, []string{"session_pkey", "system_keys_pkey"}},
		{"end", statement{deleteSession, []any{digest[:]}}, []string{"session_pkey"}},
		// As the trigger does it.
		{"end by key", statement{"SELECT digest FROM sidecar.session WHERE key_id = $1", []any{uuid([16]byte{1})}}, []string{"session_by_key"}},
		{"prune", statement{pruneSessions[0], []any{now, 1000}}, []string{"session_by_expiry", "Tid Scan"}},
		{"prune nonces", statement{pruneSessions[1], []any{now, 1000}}, []string{"nonce_by_expiry", "Tid Scan"}},
		{"granted", statement{selectGranted, []any{1000, 500}}, []string{"system_keys_by_created_at"}},
	} {
		plan := smallTables.Replace(explainPlan(t, s, &c.s))
		if strings.Contains(plan, "Seq Scan") {
			t.Errorf("%s: scans a table:\n%s", c.name, plan)
		}
		for _, index := range c.indexes {
			if !strings.Contains(plan, index) {
				t.Errorf("%s: does not use %s:\n%s", c.name, index, plan)
			}
		}
	}
}
