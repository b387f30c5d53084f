package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestPlainSQLKeepsTotalsAndSearchRight(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	for i := range 5 {
		sample(t, s, fmt.Sprintf("%d worker", i))
	}
	other := connect(t, dsn)
	insert := func(label string) string {
		return "INSERT INTO system_keys (id, label, key_hash) VALUES (gen_random_uuid(), '" + label + "', '" + hash + "')"
	}
	for _, step := range []struct {
		statement    string
		workers, all int
	}{
		{"DELETE FROM system_keys WHERE label = '0 worker'", 4, 4},
		{"DELETE FROM system_keys WHERE label = 'nothing'", 4, 4},
		{"UPDATE system_keys SET label = 'reader' WHERE label = '1 worker'", 3, 4},
		{"UPDATE system_keys SET id = gen_random_uuid() WHERE label = '2 worker'", 3, 4},
		{"BEGIN; DELETE FROM system_keys; ROLLBACK", 3, 4},
		{"BEGIN; SAVEPOINT s; TRUNCATE system_keys; ROLLBACK TO s; " + insert("Worker 9") + "; COMMIT", 4, 5},
		{"INSERT INTO system_keys (id, label, key_hash) SELECT gen_random_uuid(), 'worker', key_hash FROM system_keys", 9, 10},
		{"INSERT INTO system_keys (id, label, key_hash) SELECT id, label, key_hash FROM system_keys " +
			"ON CONFLICT (id) DO UPDATE SET label = 'writer ' || excluded.label", 9, 10},
		{"INSERT INTO system_keys (id, label, key_hash) SELECT id, label, key_hash FROM system_keys ON CONFLICT DO NOTHING", 9, 10},
		{"SET session_replication_role = replica; " + insert("worker of a replica") + "; RESET session_replication_role", 10, 11},
		{"UPDATE system_keys SET last_used_at = now(), permissions = '{a:b}'", 10, 11},
		{"TRUNCATE system_keys", 0, 0},
		{insert("worker"), 1, 1},
		{"BEGIN ISOLATION LEVEL SERIALIZABLE; " + insert("worker") + "; TRUNCATE system_keys; " + insert("worker") + "; COMMIT", 1, 1},
		{"DELETE FROM system_keys", 0, 0},
	} {
		if _, err := other.PgConn().Exec(t.Context(), step.statement).ReadAll(); err != nil {
			t.Fatalf("%s: %v", step.statement, err)
		}
		found(t, s, "WORKER", step.workers)
		found(t, s, "", step.all)
	}
}

func TestDefaultsMakeAPlainInsertAWorkingKey(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	id := store.ID{0x01, 0x98}
	execute(t, dsn, "INSERT INTO system_keys (id, label, key_hash) VALUES ($1, 'by hand', $2)", id.String(), hash)
	got, err := s.Key(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if got.CreatedAt.IsZero() {
		t.Error("the key has no time of creation")
	}
	want := &store.Key{
		ID: id, Label: "by hand", Hash: hash, Permissions: []string{}, CreatedAt: got.CreatedAt, CreatedBy: "sql", Foreign: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("key differs (-want +got):\n%s", diff)
	}
}

// TestAnIDHasADefault has a service insert a row as it did into a table of its own.
func TestAnIDHasADefault(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	for range 2 {
		execute(t, dsn, "INSERT INTO system_keys (label, key_hash) VALUES ('by a service', '"+hash+"')")
	}
	found(t, s, "service", 2)
}

func TestPermissionsInAnyOrderAreReadSorted(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	key := sample(t, s, "untidy")
	execute(t, dsn, "UPDATE system_keys SET permissions = '{c:d,a:b,c:d}'")
	got, err := s.Key(t.Context(), key.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a:b", "c:d"}, got.Permissions); diff != "" {
		t.Errorf("permissions differ (-want +got):\n%s", diff)
	}
}

// TestNetworksOfAnotherServiceAreReadAsOurs: PostgreSQL keeps the order, the copies, and IPv4
// in its IPv6 form. What is no network it refuses, so no row has one.
func TestNetworksOfAnotherServiceAreReadAsOurs(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	key := sample(t, s, "fenced by hand")
	execute(t, dsn, "UPDATE system_keys SET networks = '{2001:db8::/32,192.0.2.1,::ffff:10.0.0.0/104,10.0.0.0/8,::1}'")
	got, err := s.Key(t.Context(), key.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"10.0.0.0/8", "192.0.2.1/32", "::1/128", "2001:db8::/32"}, got.Networks.Strings()); diff != "" {
		t.Errorf("networks differ (-want +got):\n%s", diff)
	}
	other := connect(t, dsn)
	for _, text := range []string{"office", "10.0.0.1/8", "192.0.2.1/33", "fe80::1%eth0", ""} {
		if _, err := other.Exec(t.Context(), "UPDATE system_keys SET networks = ARRAY[$1::text]::cidr[]", text); err == nil {
			t.Errorf("%q is a network", text)
		}
	}
}

func TestConstraintsRefuseRowsThatCouldNotWork(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	key := sample(t, s, "sound")
	other := connect(t, dsn)
	for what, assignment := range map[string]string{
		"an empty label":                     "label = ''",
		"a label that is too long":           "label = repeat('ä', 101)",
		"a label with a line break":          `label = E'a\nb'`,
		"the key in the place of its hash":   "key_hash = 'lm_sys_' || repeat('A', 76)",
		"another kind of hash":               "key_hash = '$2b$12$' || repeat('a', 53)",
		"an endless hash":                    "key_hash = key_hash || repeat('a', 1000)",
		"a permission that is none":          "permissions = '{admin}'",
		"a wildcard":                         "permissions = '{bots:*}'",
		"two permissions in one":             `permissions = '{"a:b,c:d"}'`,
		"two permissions in one, spaced":     `permissions = '{"a:b c:d"}'`,
		"a permission with a line break":     `permissions = ARRAY[E'a:b\nc:d']`,
		"an empty permission":                `permissions = '{""}'`,
		"a permission that is NULL":          "permissions = '{NULL}'",
		"permissions in two dimensions":      "permissions = '{{a:b},{c:d}}'",
		"too many permissions":               "permissions = array_fill('a:b'::text, ARRAY[65])",
		"permissions that are NULL":          "permissions = NULL",
		"a network that is NULL":             "networks = '{NULL}'",
		"networks in two dimensions":         "networks = '{{10.0.0.0/8},{::/0}}'",
		"too many networks":                  "networks = array_fill('10.0.0.0/8'::cidr, ARRAY[17])",
		"networks that are NULL":             "networks = NULL",
		"an expiry at infinity":              "expires_at = 'infinity'",
		"a last use at minus infinity":       "last_used_at = '-infinity'",
		"a creation at no time":              "created_at = NULL",
		"a system flag that is neither":      "is_system = NULL",
		"a creator that is nobody":           "created_by = NULL",
		"an id that is nothing":              "id = NULL",
		"a label that is nothing":            "label = NULL",
		"a hash that is nothing":             "key_hash = NULL",
		"a permission in upper case letters": "permissions = '{Bots:Read}'",
	} {
		_, err := other.Exec(t.Context(), "UPDATE system_keys SET "+assignment)
		refusal, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || !strings.HasPrefix(refusal.Code, "23") { // integrity constraint violation
			t.Errorf("%s: %v, want a violated constraint", what, err)
		}
	}
	if got, err := s.Key(t.Context(), key.ID); err != nil || !cmp.Equal(key, got) {
		t.Errorf("the key became %+v, %v", got, err)
	}
}

func TestAServiceWithRightsOnTheTableAloneCanUseItAndSeesNoSecret(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	sample(t, s, "worker one")
	other := connect(t, dsn)
	role := "service_" + strings.ToLower(strings.ReplaceAll(other.Config().Database, "test_", ""))
	run := func(statement string) error {
		_, err := other.Exec(t.Context(), statement)
		return err
	}
	for _, statement := range []string{
		"CREATE ROLE " + role,
		"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON system_keys TO " + role,
		"SET ROLE " + role,
		"INSERT INTO system_keys (id, label, key_hash) VALUES (gen_random_uuid(), 'worker two', '" + hash + "')",
		"UPDATE system_keys SET label = 'worker three' WHERE label = 'worker two'",
		"UPDATE system_keys SET last_used_at = now()",
		"DELETE FROM system_keys WHERE label = 'worker one'",
	} {
		if err := run(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	found(t, s, "worker", 1)
	found(t, s, "", 1)
	for _, statement := range []string{
		"SELECT key FROM sidecar.mint_key", "SELECT * FROM sidecar.key_count", "DELETE FROM sidecar.schema_migrations",
		"SELECT sidecar.keys_truncated()", "SELECT * FROM sidecar.session", "DELETE FROM sidecar.nonce",
		"SELECT sidecar.end_sessions()", "SELECT * FROM sidecar.adopted_key", "SELECT sidecar.end_adoption()", "CREATE TABLE sidecar.mine (n int)",
	} {
		refusal, ok := errors.AsType[*pgconn.PgError](run(statement))
		if !ok || refusal.Code != "42501" { // insufficient privilege
			t.Errorf("%s: %v, want a refusal", statement, refusal)
		}
	}
	for _, statement := range []string{"TRUNCATE system_keys", "RESET ROLE", "DROP OWNED BY " + role, "DROP ROLE " + role} {
		if err := run(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	found(t, s, "", 0)
}
