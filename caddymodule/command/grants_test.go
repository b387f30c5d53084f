package command_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// TestGrantsAreWhatCommandsNeed makes roles as docs/operations/postgresql.md does: the owner
// migrates, and runs what the command prints for the others.
func TestGrantsAreWhatCommandsNeed(t *testing.T) {
	t.Parallel()
	dsn := testenv.Database(t)
	database := querySQL[string](t, dsn, "SELECT current_database()")
	m := &moveIn{tb: t}
	as := make(map[string]string)
	for _, role := range []string{"owner", "server", "reader"} {
		name := role + "_" + database
		as[role] = strings.Replace(dsn, "//postgres@", "//"+name+"@", 1)
		m.env = append(m.env, strings.ToUpper(role)+"="+as[role])
		execSQL(t, dsn, "CREATE ROLE "+name+" LOGIN")
		t.Cleanup(func() { execSQL(t, dsn, "DROP OWNED BY "+name+" CASCADE; DROP ROLE "+name) })
	}
	execSQL(t, dsn, "GRANT CREATE ON DATABASE "+database+" TO owner_"+database)
	run := func(want int, role, command string, args ...string) string {
		t.Helper()
		out, said, status := m.run(slices.Concat([]string{command, "--store", "{env." + role + "}", "--schema", "keys"}, args)...)
		if status != want {
			t.Errorf("%s %s %v ended with %d: %s", role, command, args, status, said)
		}
		return out + said
	}
	if said := run(1, "SERVER", "grants", "--role", "x"); !strings.Contains(said, "no schema of system keys yet") {
		t.Errorf("without a store it said %s", said)
	}
	run(0, "OWNER", "migrate")
	// A role asks for its own rights before it has one.
	execSQL(t, as["owner"], run(0, "SERVER", "grants", "--role", "server_"+database))
	execSQL(t, as["owner"], run(0, "READER", "grants", "--role", "reader_"+database, "--for", "read"))

	run(0, "SERVER", "create", "--label", "a worker")
	run(0, "SERVER", "status")
	for _, role := range []string{"SERVER", "READER"} {
		if said := run(0, role, "list"); !strings.Contains(said, "a worker") {
			t.Errorf("%s lists %s", role, said)
		}
		if said := run(0, role, "audit"); !strings.Contains(said, "api_key.created") {
			t.Errorf("the audit log of %s is %s", role, said)
		}
	}
	id := querySQL[string](t, dsn, "SELECT id::text FROM keys.system_keys")
	run(1, "READER", "create", "--label", "another")
	run(1, "READER", "revoke", "--yes", id)
	run(0, "SERVER", "revoke", "--yes", id)
	if said := run(0, "READER", "list"); !strings.Contains(said, "0 key(s)") {
		t.Errorf("it lists %s", said)
	}
}
