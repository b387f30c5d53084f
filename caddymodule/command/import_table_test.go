package command_test

import (
	"strings"
	"testing"
	"time"
)

func TestEveryTypeOfColumnIsRead(t *testing.T) {
	t.Parallel()
	m := intoPostgres(t)
	for name, c := range map[string]struct{ table, values, permissions string }{
		"text_array":  {"permissions text[]", "'{a:b,c:d}'", "a:b c:d"},
		"varchars":    {"permissions varchar(20)[]", "'{a:b,c:d}'", "a:b c:d"},
		"an_enum":     {"permissions mood[]", "'{a:b}'", "a:b"},
		"jsonb":       {"permissions jsonb", `'["c:d", "a:b"]'`, "a:b c:d"},
		"json":        {"permissions json", `'["c:d", "a:b"]'`, "a:b c:d"},
		"json_null":   {"permissions jsonb", "'null'", ""},
		"commas":      {"permissions text", "'c:d, a:b'", "a:b c:d"},
		"blanks":      {"permissions text", "'c:d a:b'", "a:b c:d"},
		"json_text":   {"permissions text", `'["a:b"]'`, "a:b"},
		"nothing":     {"permissions text[]", "NULL", ""},
		"empty_array": {"permissions text[]", "'{}'", ""},
	} {
		execSQL(t, m.theirs, `DO $$ BEGIN CREATE TYPE mood AS ENUM ('a:b'); EXCEPTION WHEN duplicate_object THEN NULL; END $$;
CREATE SCHEMA "`+name+`"; CREATE TABLE "`+name+`".keys (id text, label varchar(200), key_hash char(120), `+c.table+`);
INSERT INTO "`+name+`".keys VALUES (upper(gen_random_uuid()::text), '`+name+`', '`+theirHash+`', `+c.values+`)`)
		m.importKeys(0, "--table", name+".keys")
		key := m.keys()[name]
		if key == nil || strings.Join(key.Permissions, " ") != c.permissions || key.Hash != theirHash || key.CreatedAt.IsZero() {
			t.Errorf("%s: %+v", name, key)
		}
	}
	// The time of the import is no difference.
	if out, _ := m.importKeys(0, "--table", "jsonb.keys"); !strings.Contains(out, "1 are there already") {
		t.Errorf("again it said %s", out)
	}
	execSQL(t, m.theirs, `CREATE TABLE times (id uuid, label text, key_hash text, permissions text, created_at timestamp, expires_at date, last_used_at text);
INSERT INTO times VALUES (gen_random_uuid(), 'times', '`+theirHash+`', '', '2024-03-01 12:00', '2124-03-01', 'never');
ALTER DATABASE `+querySQL[string](t, m.theirs, "SELECT current_database()")+` SET timezone = 'Asia/Tokyo'`)
	if _, said := m.importKeys(1, "--table", "times"); !strings.Contains(said, `the column "last_used_at" of "public"."times", for last_used_at, is text: a timestamp or a date is needed`) {
		t.Errorf("it said %s", said)
	}
	execSQL(t, m.theirs, "ALTER TABLE times DROP COLUMN last_used_at")
	m.importKeys(0, "--table", "times")
	if key := m.keys()["times"]; key == nil || !key.CreatedAt.Equal(time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)) ||
		!key.ExpiresAt.Equal(time.Date(2124, 3, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", key)
	}
}

// TestAnIDOfTwoRowsIsNobodys has ids in a column that is not unique.
func TestAnIDOfTwoRowsIsNobodys(t *testing.T) {
	t.Parallel()
	m := intoPostgres(t)
	execSQL(t, m.theirs, `CREATE TABLE keys (id text, label text, key_hash text, permissions text);
INSERT INTO keys SELECT i, 'key', '`+theirHash+`', '' FROM unnest('{0b2f7c7e-5d0c-4f0e-9d0a-3f6d6f1c2b3a,0B2F7C7E-5D0C-4F0E-9D0A-3F6D6F1C2B3A,
	1b2f7c7e-5d0c-4f0e-9d0a-3f6d6f1c2b3a,NULL}'::text[]) i`)
	out, _ := m.importKeys(0, "--skip")
	if strings.Count(out, "id stands in more than one row") != 2 || !strings.Contains(out, "4 row(s): 1 fit, 0 are there already, 3 do not fit (id 3)") {
		t.Errorf("it said\n%s", out)
	}
	if n := len(m.keys()); n != 1 {
		t.Errorf("%d keys are there", n)
	}
}

func TestATableIsFoundByItsNameAndMap(t *testing.T) {
	t.Parallel()
	m := intoPostgres(t)
	execSQL(t, m.theirs, `CREATE SCHEMA "My; App"; CREATE TABLE "My; App"."API ""Keys""" ("Key Id" text, name text, "hash""" text, scopes text, owner text, revoked_at timestamptz);
INSERT INTO "My; App"."API ""Keys""" VALUES (gen_random_uuid(), 'odd names', '`+theirHash+`', 'a:b', 'x', NULL),
	(gen_random_uuid(), 'revoked', '`+theirHash+`', 'a:b', 'x', now());
CREATE VIEW live AS SELECT "Key Id" AS id, name AS label, "hash""" AS key_hash, scopes AS permissions FROM "My; App"."API ""Keys""" WHERE revoked_at IS NULL`)
	const table = `"My; App"."API ""Keys"""`
	_, said := m.importKeys(0, "--dry-run", "--table", table, "--map", `id=Key Id,label=name`, "--map", `"hash=hash"""`, "--map", "permissions=scopes")
	if !strings.Contains(said, `Reads `+table+`: id from Key Id, label from name, hash from hash", permissions from scopes, no created_at, no last_used_at, no expires_at.`) ||
		!strings.Contains(said, "Not read: owner, revoked_at.") {
		t.Errorf("it said %s", said)
	}
	if out, _ := m.importKeys(0, "--table", "public.live"); !strings.Contains(out, "1 fit") {
		t.Errorf("of the view it said %s", out)
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"a column that is not":      {[]string{"--table", table}, `has no column "id" for id: use --map id=COLUMN, with one of Key Id, name, hash", scopes, owner, revoked_at`},
		"a table that is not":       {[]string{"--table", "public.none"}, `there is no table or view "public.none"`},
		"a schema that is not":      {[]string{"--table", "none.keys"}, `there is no table or view "none.keys"`},
		"no name":                   {[]string{"--table", "keys; DROP TABLE keys"}, "there is no table or view"},
		"a table of another base":   {[]string{"--table", "a.b.c"}, "there is no table or view"},
		"an optional one that's no": {[]string{"--table", "live", "--map", "expires_at=until"}, `has no column "until" for expires_at`},
	} {
		if _, said := m.importKeys(1, c.args...); !strings.Contains(said, c.want) {
			t.Errorf("%s: it said %s", name, said)
		}
	}
	// A hash that stands where a label is looked for is not shown, and not taken.
	execSQL(t, m.theirs, `CREATE TABLE legacy AS SELECT gen_random_uuid() AS id, '`+theirHash+`' AS key_hash, '`+theirHash+`' AS old, 'lm_sys_0123456789abcdefghij' AS plain`)
	out, _ := m.importKeys(1, "--table", "legacy", "--map", "label=old,permissions=plain")
	if !strings.Contains(out, "REDACTED") {
		t.Errorf("it said %s", out)
	}
}

func TestTheTableOfTheStoreItselfIsRefused(t *testing.T) {
	t.Parallel()
	m := intoPostgres(t)
	// The same database by another DSN, and another store of the same form.
	ours := strings.TrimPrefix(m.env[0], "OURS=")
	m.env = append(m.env, "ALIAS="+withOption(ours, "application_name=other"))
	for _, dsn := range []string{"{env.OURS}", "{env.ALIAS}"} {
		if _, said := m.importKeys(1, "--from", dsn, "--table", "system_keys"); !strings.Contains(said, "this is the table of the store itself") {
			t.Errorf("of %s it said %s", dsn, said)
		}
	}
	if _, said, status := m.run("migrate", "--store", "{env.THEIRS}"); status != 0 {
		t.Fatal(said)
	}
	m.importKeys(0, "--table", "system_keys")
	execSQL(t, ours, rustTable)
	m.importKeys(0, "--from", "{env.OURS}")
}

// TestRowLevelSecurityHidesNothing reads as a role from which a policy hides rows.
func TestRowLevelSecurityHidesNothing(t *testing.T) {
	t.Parallel()
	m := intoPostgres(t)
	role := "reader_" + querySQL[string](t, m.theirs, "SELECT current_database()")
	execSQL(t, m.theirs, rustTable+`INSERT INTO keys VALUES (gen_random_uuid(), 'hidden', '`+theirHash+`');
CREATE ROLE `+role+`; GRANT SELECT ON keys TO `+role+`; ALTER TABLE keys ENABLE ROW LEVEL SECURITY; CREATE POLICY none ON keys USING (false);`)
	t.Cleanup(func() { execSQL(t, m.theirs, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	m.env = append(m.env, "HIDDEN="+withOption(m.theirs, "role="+role))
	if _, said := m.importKeys(1, "--from", "{env.HIDDEN}"); !strings.Contains(said, "row-level security") {
		t.Errorf("it said %s", said)
	}
}

// withOption adds an option to a DSN.
func withOption(dsn, option string) string {
	if strings.Contains(dsn, "?") {
		return dsn + "&" + option
	}
	return dsn + "?" + option
}
