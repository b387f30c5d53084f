package command_test

import (
	"strings"
	"testing"
)

// beside is a store in the database of the other service.
func beside(t *testing.T) *moveIn {
	t.Helper()
	m := intoPostgres(t)
	m.theirs = strings.TrimPrefix(m.env[0], "OURS=")
	m.env = []string{m.env[0], "THEIRS=" + m.theirs}
	return m
}

func TestATableIsFollowedAndNotAnyMore(t *testing.T) {
	t.Parallel()
	m := beside(t)
	execSQL(t, m.theirs, rustTable+`INSERT INTO keys VALUES (gen_random_uuid(), 'one', '`+theirHash+`', '{a:b}'), (gen_random_uuid(), 'old', '$2b$12$x', '{}')`)
	labels := func(want string) {
		t.Helper()
		const query = "SELECT coalesce(string_agg(label, ' ' ORDER BY label), '') FROM system_keys"
		if got := querySQL[string](t, m.theirs, query); got != want {
			t.Errorf("the store has %q, want %q", got, want)
		}
	}
	says := func(said, want string) {
		t.Helper()
		if !strings.Contains(said, want) {
			t.Errorf("it did not say %q, but\n%s", want, said)
		}
	}
	_, said := m.importKeys(1, "--follow")
	says(said, "1 row(s) do not fit, so nothing was imported")
	out, said := m.importKeys(0, "--follow", "--dry-run")
	says(out, "2 row(s): 1 fit, 0 are there already, 1 do not fit (hash 1)")
	says(said, `Would put four triggers on "public"."keys", and then import 1 row(s). Nothing was written.`)
	labels("")
	if n := querySQL[int](t, m.theirs, "SELECT count(*)::int FROM pg_trigger WHERE tgrelid = 'keys'::regclass"); n != 0 {
		t.Errorf("the dry run has left %d triggers", n)
	}
	_, said = m.importKeys(0, "--follow", "--skip")
	says(said, "Imported 1 key(s).")
	says(said, `Follows "public"."keys" since `)
	says(said, ": 1 of its row(s) do not fit.\n")
	execSQL(t, m.theirs, `INSERT INTO keys VALUES (gen_random_uuid(), 'two', '`+theirHash+`'), (gen_random_uuid(), 'three', 'x')`)
	labels("one two")
	out, said = m.importKeys(0, "--follow", "--skip") // it changes nothing
	says(out, "4 row(s): 0 fit, 2 are there already, 2 do not fit (hash 2)")
	says(said, "Imported 0 key(s).")
	says(said, ": 2 of its row(s) do not fit.\n")
	_, said = m.importKeys(1)
	says(said, "end that by import --unfollow")
	out, said, status := m.run("status", "--store", m.store)
	if status != 0 {
		t.Error(said)
	}
	says(out, `Follows "public"."keys" since `)
	out, _, _ = m.run("status", "--json", "--store", m.store)
	says(out, `"carried":true,"unfit":2}`)

	// Whatever somebody does to the triggers shows, also after it was undone.
	for _, statement := range []string{
		"ALTER TABLE keys DISABLE TRIGGER ALL", "ALTER TABLE keys ENABLE ALWAYS TRIGGER sidecar_follow_delete", "ALTER TABLE keys RENAME TO renamed",
	} {
		execSQL(t, m.theirs, statement)
		out, said, status = m.run("status", "--store", m.store)
		says(out, "the keys that came from it are not accepted")
		if says(said, "import --follow"); status != 1 {
			t.Errorf("status ended with %d", status)
		}
	}
	execSQL(t, m.theirs, "ALTER TABLE renamed RENAME TO keys; DELETE FROM keys WHERE label = 'two'; ALTER TABLE keys DISABLE TRIGGER ALL;"+
		"DELETE FROM keys WHERE label = 'one'; UPDATE keys SET key_hash = '"+theirHash+"' WHERE label = 'three'")
	labels("one")
	_, said = m.importKeys(0, "--follow", "--skip")
	says(said, "Imported 1 key(s).")
	labels("three")
	if out, said, status = m.run("status", "--store", m.store); status != 0 {
		t.Error(out, said)
	}

	execSQL(t, m.theirs, "DROP TABLE keys")
	_, said, status = m.run("import", "--unfollow", "--store", m.store)
	if says(said, `"public"."keys" is not followed any more. The keys that came from it stay.`); status != 0 {
		t.Errorf("it ended with %d", status)
	}
	_, said, _ = m.run("import", "--unfollow", "--store", m.store)
	says(said, "No table is followed.")
	if out, _, _ = m.run("status", "--store", m.store); strings.Contains(out, "ollows") {
		t.Errorf("status says %s", out)
	}
	labels("three")
	execSQL(t, m.theirs, rustTable)
	_, said = m.importKeys(1, "--follow")
	says(said, `1 key(s) that were imported before are not in "public"."keys", such as `)
	execSQL(t, m.theirs, "INSERT INTO keys SELECT id, 'drei', key_hash FROM system_keys")
	m.importKeys(0, "--follow")
	labels("drei")
	if _, said, status = m.run("import", "--unfollow", "--store", m.store); status != 0 {
		t.Error(said)
	}
	execSQL(t, m.theirs, "DELETE FROM keys")
	labels("drei")
}

func TestWhatCannotBeFollowedIsSaid(t *testing.T) {
	t.Parallel()
	m := beside(t)
	execSQL(t, m.theirs, rustTable+`CREATE VIEW live AS SELECT * FROM keys; CREATE TABLE parent (LIKE keys INCLUDING ALL); CREATE TABLE child () INHERITS (parent);
CREATE TABLE split (LIKE keys) PARTITION BY HASH (id); CREATE UNLOGGED TABLE lossy (LIKE keys INCLUDING ALL); CREATE TABLE loose (LIKE keys);
CREATE TABLE numbers (id bigint PRIMARY KEY, label text, key_hash text, permissions text); CREATE TABLE second (LIKE keys INCLUDING ALL)`)
	for table, want := range map[string]string{
		"live": "only an ordinary table can", "parent": "only an ordinary table can", "child": "only an ordinary table can", "split": "only an ordinary table can",
		"lossy": "only an ordinary table can", "loose": `its column "id" needs a unique index or a primary key`, "numbers": `its column "id" is neither uuid nor text`,
		"system_keys": "this is the table of the store itself",
	} {
		if _, said := m.importKeys(1, "--follow", "--table", table); !strings.Contains(said, want) {
			t.Errorf("%s: it said %s", table, said)
		}
	}
	m.importKeys(0, "--follow")
	if _, said := m.importKeys(1, "--follow", "--table", "second"); !strings.Contains(said, `"public"."keys" is followed already: end that by import --unfollow`) {
		t.Errorf("of a second table it said %s", said)
	}
	apart := intoPostgres(t)
	execSQL(t, apart.theirs, rustTable)
	if _, said := apart.importKeys(1, "--follow"); !strings.Contains(said, "it is in another database than the store") {
		t.Errorf("of another database it said %s", said)
	}
	lite := intoSQLite(t)
	execSQL(t, lite.theirs, rustTable)
	if _, said := lite.importKeys(1, "--follow"); !strings.Contains(said, "only a store in PostgreSQL can follow a table") {
		t.Errorf("into SQLite it said %s", said)
	}
	if _, said, status := lite.run("import", "--unfollow", "--store", lite.store); status != 1 || !strings.Contains(said, "only a store in PostgreSQL") {
		t.Errorf("of SQLite it said %d %s", status, said)
	}
	if _, said, status := m.run("import", "--unfollow", "--table", "keys", "--store", m.store); status != 2 || !strings.Contains(said, "--unfollow goes without --table") {
		t.Errorf("with both it said %d %s", status, said)
	}
}

// TestFollowingNeedsTheOwnerOfTheTable, since nobody else may have its triggers fire always.
func TestFollowingNeedsTheOwnerOfTheTable(t *testing.T) {
	t.Parallel()
	m := beside(t)
	role := "owner_" + querySQL[string](t, m.theirs, "SELECT current_database()")
	execSQL(t, m.theirs, rustTable+"CREATE ROLE "+role+"; CREATE ROLE their_"+role+"; GRANT SELECT ON keys TO "+role+"; ALTER TABLE keys OWNER TO their_"+role+
		"; GRANT ALL ON SCHEMA sidecar TO "+role+"; GRANT ALL ON ALL TABLES IN SCHEMA sidecar TO "+role+"; GRANT ALL ON system_keys TO "+role)
	t.Cleanup(func() {
		execSQL(t, m.theirs, "DROP OWNED BY "+role+", their_"+role+" CASCADE; DROP ROLE "+role+", their_"+role)
	})
	m.env = append(m.env, "LESSER="+withOption(m.theirs, "role="+role))
	for _, args := range [][]string{{}, {"--dry-run"}} {
		_, said := m.importKeys(1, append([]string{"--follow", "--store", "{env.LESSER}"}, args...)...)
		if !strings.Contains(said, "permission denied for table keys") || !strings.Contains(said, "must own its own tables and the one that is followed") {
			t.Errorf("it said %s", said)
		}
	}
}
