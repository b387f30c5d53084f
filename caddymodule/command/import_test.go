package command_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// blanks are what stands between the columns of a table.
var blanks = regexp.MustCompile(" {2,}")

// theirHash is a hash as the Rust crate argon2 writes it.
const theirHash = "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"

// execSQL runs statements on a database, as another program does.
func execSQL(tb testing.TB, dsn, statements string) {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, statements); err != nil {
		tb.Fatal(err)
	}
}

// querySQL returns one value.
func querySQL[T any](tb testing.TB, dsn, query string) (value T) {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := conn.QueryRow(ctx, query).Scan(&value); err != nil {
		tb.Fatal(err)
	}
	return value
}

// moveIn is a database of another service, and a store.
type moveIn struct {
	tb     testing.TB
	theirs string
	// store is a DSN, and open opens it.
	store string
	open  func() store.Store
	env   []string
}

// moveIns has a store of each kind.
func moveIns(t *testing.T, test func(t *testing.T, m *moveIn)) {
	t.Helper()
	for name, into := range map[string]func(t *testing.T) *moveIn{"postgres": intoPostgres, "sqlite": intoSQLite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, into(t))
		})
	}
}

func intoPostgres(t *testing.T) *moveIn {
	t.Helper()
	ours := testenv.Database(t)
	m := &moveIn{tb: t, theirs: testenv.Database(t), store: "{env.OURS}"}
	m.env = []string{"OURS=" + ours, "THEIRS=" + m.theirs}
	m.open = func() store.Store {
		s, err := postgres.Open(context.WithoutCancel(t.Context()), ours, postgres.Options{})
		return m.opened(s, err)
	}
	m.migrate()
	return m
}

func intoSQLite(t *testing.T) *moveIn {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys.db")
	m := &moveIn{tb: t, theirs: testenv.Database(t), store: "sqlite://" + file}
	m.env = []string{"THEIRS=" + m.theirs}
	m.open = func() store.Store {
		s, err := sqlite.Open(context.WithoutCancel(t.Context()), file, sqlite.Options{MustExist: true})
		return m.opened(s, err)
	}
	m.migrate()
	return m
}

func (m *moveIn) opened(s store.Store, err error) store.Store {
	m.tb.Helper()
	if err != nil {
		m.tb.Fatal(err)
	}
	m.tb.Cleanup(func() { _ = s.Close() })
	return s
}

func (m *moveIn) migrate() {
	m.tb.Helper()
	if _, said, status := m.run("migrate", "--store", m.store); status != 0 {
		m.tb.Fatal(said)
	}
}

// run runs `caddy system-keys …`.
func (m *moveIn) run(args ...string) (stdout, stderr string, status int) {
	m.tb.Helper()
	cmd := m.command(args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		status = exit.ExitCode()
	} else if err != nil {
		m.tb.Fatal(err)
	}
	return out.String(), said.String(), status
}

func (m *moveIn) command(args ...string) *exec.Cmd {
	m.tb.Helper()
	cmd := exec.CommandContext(m.tb.Context(), "caddy", append([]string{"system-keys"}, args...)...)
	cmd.Env = append(append(os.Environ(), "HOME="+m.tb.TempDir()), m.env...)
	return cmd
}

// importKeys runs the command on public.keys, and expects this status.
func (m *moveIn) importKeys(want int, args ...string) (stdout, stderr string) {
	m.tb.Helper()
	args = append([]string{"import", "--from", "{env.THEIRS}", "--store", m.store}, args...)
	if !strings.Contains(strings.Join(args, " "), "--table") {
		args = append(args, "--table", "public.keys")
	}
	stdout, stderr, status := m.run(args...)
	if status != want {
		m.tb.Errorf("%v ended with %d, want %d:\n%s%s", args, status, want, stdout, stderr)
	}
	if all := stdout + stderr; strings.Contains(all, "$argon2") || strings.Contains(all, "lm_sys_") {
		m.tb.Errorf("%v shows a secret:\n%s", args, all)
	}
	return stdout, stderr
}

// keys returns the keys of the store by label.
func (m *moveIn) keys() map[string]*store.Key {
	m.tb.Helper()
	s, all := m.open(), make(map[string]*store.Key)
	query := &store.KeyQuery{Limit: store.MaxLimit, Sort: store.SortLabel}
	for {
		page, err := s.Keys(m.tb.Context(), query)
		if err != nil {
			m.tb.Fatal(err)
		}
		for _, key := range page.Keys {
			whole, err := s.Key(m.tb.Context(), key.ID)
			if err != nil {
				m.tb.Fatal(err)
			}
			all[key.Label] = whole
		}
		if query.After = page.Next; page.Next == nil {
			return all
		}
	}
}

// rustTable is the table of a service that uses sqlx.
const rustTable = `CREATE TABLE public.keys (
	id uuid PRIMARY KEY, label text, key_hash text, permissions text[],
	created_at timestamptz NOT NULL DEFAULT '2024-03-01 12:30:00.123456Z', last_used_at timestamptz, expires_at timestamptz);`

func TestKeysOfAnotherTableAreImported(t *testing.T) {
	t.Parallel()
	moveIns(t, func(t *testing.T, m *moveIn) {
		execSQL(t, m.theirs, rustTable+`
INSERT INTO keys VALUES ('0B2F7C7E-5D0C-4F0E-9D0A-3F6D6F1C2B3A', ' bot ', '`+theirHash+`', '{bots:write,bots:read}',
	'2024-03-01 12:30:00.123456Z', '2024-04-01Z', '2124-04-01Z');
INSERT INTO keys VALUES (gen_random_uuid(), 'bare', '`+theirHash+`', NULL)`)
		before := querySQL[string](t, m.theirs, "SELECT md5(string_agg(k::text, '' ORDER BY id)) FROM keys k")

		out, said := m.importKeys(0, "--dry-run")
		if out != "2 row(s): 2 fit, 0 are there already, 0 do not fit\n" || !strings.Contains(said, "Nothing was written.") {
			t.Errorf("the dry run said\n%s%s", out, said)
		}
		if n := len(m.keys()); n != 0 {
			t.Fatalf("the dry run wrote %d keys", n)
		}
		out, said = m.importKeys(0)
		if out != "2 row(s): 2 fit, 0 are there already, 0 do not fit\n" || !strings.Contains(said, "Imported 2 key(s).") {
			t.Errorf("it said\n%s%s", out, said)
		}
		keys := m.keys()
		id, _ := store.ParseID("0b2f7c7e-5d0c-4f0e-9d0a-3f6d6f1c2b3a")
		created := time.Date(2024, 3, 1, 12, 30, 0, 123456000, time.UTC)
		want := &store.Key{
			ID: id, Label: "bot", Hash: theirHash, Permissions: []string{"bots:read", "bots:write"}, CreatedAt: created,
			CreatedBy: "import", LastUsedAt: created.AddDate(0, 1, 0).Truncate(24 * time.Hour),
			ExpiresAt: created.AddDate(100, 1, 0).Truncate(24 * time.Hour), Foreign: true,
		}
		if diff := cmp.Diff(want, keys["bot"]); diff != "" || keys["bot"].Hash != theirHash {
			t.Errorf("-want +got\n%s", diff)
		}
		if bare := keys["bare"]; bare == nil || len(bare.Permissions) != 0 || !bare.ExpiresAt.IsZero() || !bare.LastUsedAt.IsZero() {
			t.Errorf("%+v", bare)
		}

		// Again: all are there. Then one was used, and one more has come.
		if out, said = m.importKeys(0); !strings.Contains(out, "2 row(s): 0 fit, 2 are there already") || !strings.Contains(said, "Imported 0 key(s)") {
			t.Errorf("again it said\n%s%s", out, said)
		}
		if err := m.open().RecordUse(t.Context(), []store.Use{{ID: id, At: time.Now()}}); err != nil {
			t.Fatal(err)
		}
		if after := querySQL[string](t, m.theirs, "SELECT md5(string_agg(k::text, '' ORDER BY id)) FROM keys k"); after != before {
			t.Error("the other table was changed")
		}
		execSQL(t, m.theirs, "INSERT INTO keys SELECT gen_random_uuid(), 'new', key_hash FROM keys LIMIT 1")
		if out, _ = m.importKeys(0); !strings.Contains(out, "3 row(s): 1 fit, 2 are there already") {
			t.Errorf("with a new row it said\n%s", out)
		}
		if out, _, status := m.run("audit", "--json", "--store", m.store); status != 0 || out != "" {
			t.Errorf("the audit log has %s", out)
		}
	})
}

// TestAReportThatIsLostUndoesNoImport, and the message says what was done.
func TestAReportThatIsLostUndoesNoImport(t *testing.T) {
	t.Parallel()
	m := intoSQLite(t)
	execSQL(t, m.theirs, rustTable+"INSERT INTO keys VALUES (gen_random_uuid(), 'bot', '"+theirHash+"')")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = full.Close() }()
	for _, c := range []struct {
		flag, want string
		keys       int
	}{
		{"--dry-run", "Nothing was written.\nError: the report could not be written: ", 0},
		{"--skip", "Imported 1 key(s).\nError: the report could not be written: ", 1},
	} {
		cmd := m.command("import", "--from", "{env.THEIRS}", "--store", m.store, "--table", "public.keys", c.flag)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = full, &said
		err := cmd.Run()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 ||
			!strings.Contains(said.String(), c.want) || strings.Contains(said.String(), "all of it or nothing") {
			t.Errorf("with %s it ended with %v and said\n%s", c.flag, err, &said)
		}
		if n := len(m.keys()); n != c.keys {
			t.Errorf("after %s there are %d keys", c.flag, n)
		}
	}
}

func TestRowsThatDoNotFitStopTheImport(t *testing.T) {
	t.Parallel()
	moveIns(t, func(t *testing.T, m *moveIn) {
		execSQL(t, m.theirs, rustTable+`
INSERT INTO keys (id, label, key_hash, permissions, expires_at) VALUES
	('00000000-0000-4000-8000-000000000001', 'fits', '`+theirHash+`', '{a:b}', NULL),
	('00000000-0000-4000-8000-000000000002', repeat('x', 101), '`+theirHash+`', '{}', NULL),
	('00000000-0000-4000-8000-000000000003', '', '`+theirHash+`', '{}', NULL),
	('00000000-0000-4000-8000-000000000004', E'two\nlines', '`+theirHash+`', '{}', NULL),
	('00000000-0000-4000-8000-000000000005', 'lm_sys_0123456789abcdefghij', '`+theirHash+`', '{}', NULL),
	('00000000-0000-4000-8000-000000000006', 'wildcard', '`+theirHash+`', '{bots:*}', NULL),
	('00000000-0000-4000-8000-000000000007', 'many', '`+theirHash+`', (SELECT array_agg('a:b' || n) FROM generate_series(1, 65) n), NULL),
	('00000000-0000-4000-8000-000000000008', 'bcrypt', '$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW', '{}', NULL),
	('00000000-0000-4000-8000-000000000009', 'argon2i', replace('`+theirHash+`', 'argon2id', 'argon2i'), '{}', NULL),
	('00000000-0000-4000-8000-00000000000a', 'argon2d', replace('`+theirHash+`', 'argon2id', 'argon2d'), '{}', NULL),
	('00000000-0000-4000-8000-00000000000b', 'huge', replace('`+theirHash+`', '19456', '262145'), '{}', NULL),
	('00000000-0000-4000-8000-00000000000c', 'for ever', '`+theirHash+`', '{}', 'infinity'),
	('00000000-0000-0000-0000-000000000000', 'nil', '`+theirHash+`', '{}', NULL),
	('00000000-0000-4000-8000-00000000000d', 'two', 'x', '{bots:*}', NULL)`)
		want := []string{
			"ID  LABEL  WHY IT DOES NOT FIT",
			"00000000-0000-0000-0000-000000000000  nil  id is not a UUID",
			"00000000-0000-4000-8000-000000000002  " + strings.Repeat("x", 100) + "…  label must be at most 100 characters long",
			"00000000-0000-4000-8000-000000000003  —  label must not be empty",
			"00000000-0000-4000-8000-000000000004  two�lines  label must not contain control characters",
			"00000000-0000-4000-8000-000000000005  REDACTED  label must not hold a system key",
			`00000000-0000-4000-8000-000000000006  wildcard  permissions "bots:*" is not of the form resource:action (a-z, 0-9 and hyphen)`,
			"00000000-0000-4000-8000-000000000007  many  permissions a key can hold 64 permissions at most",
			"00000000-0000-4000-8000-000000000008  bcrypt  hash is of bcrypt, not of Argon2id",
			"00000000-0000-4000-8000-000000000009  argon2i  hash is of Argon2i, not of Argon2id",
			"00000000-0000-4000-8000-00000000000a  argon2d  hash is of Argon2d, not of Argon2id",
			"00000000-0000-4000-8000-00000000000b  huge  hash memory out of bounds: must be 8 KiB for each lane to 262144 KiB",
			"00000000-0000-4000-8000-00000000000c  for ever  expires_at is infinite",
			"00000000-0000-4000-8000-00000000000d  two  hash is not an Argon2id PHC string; permissions \"bots:*\" is not of the form resource:action (a-z, 0-9 and hyphen)",
			"14 row(s): 1 fit, 0 are there already, 13 do not fit (expires_at 1, hash 5, id 1, label 4, permissions 3)",
		}
		same := func(out string) {
			t.Helper()
			var got []string
			for line := range strings.Lines(out) {
				// The width of the columns does not matter.
				got = append(got, blanks.ReplaceAllString(strings.TrimSpace(line), "  "))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		}
		out, _ := m.importKeys(0, "--dry-run")
		same(out)
		out, said := m.importKeys(1)
		same(out)
		if !strings.Contains(said, "13 row(s) do not fit, so nothing was imported") {
			t.Errorf("it said\n%s", said)
		}
		if n := len(m.keys()); n != 0 {
			t.Fatalf("%d keys were imported", n)
		}
		out, _ = m.importKeys(1, "--relabel")
		if !strings.Contains(out, "14 row(s): 4 fit (3 of them with a repaired label), 0 are there already, 10 do not fit") {
			t.Errorf("with --relabel it said\n%s", out)
		}
		if n := len(m.keys()); n != 0 {
			t.Fatalf("%d keys were imported", n)
		}
		out, said = m.importKeys(0, "--skip", "--json")
		if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 14 ||
			lines[0] != `{"id":"00000000-0000-0000-0000-000000000000","label":"nil","problems":[{"field":"id","reason":"is not a UUID"}]}` ||
			lines[13] != `{"rows":14,"fit":1,"relabelled":0,"there":0,"unfit":13,"problems":{"expires_at":1,"hash":5,"id":1,"label":4,"permissions":3}}` {
			t.Errorf("with --skip it said\n%s", out)
		}
		if !strings.Contains(said, "Imported 1 key(s)") || len(m.keys()) != 1 {
			t.Errorf("it said %s and there are %d keys", said, len(m.keys()))
		}
		m.importKeys(0, "--skip", "--relabel")
		keys := m.keys()
		for _, label := range []string{"fits", strings.Repeat("x", 100), "imported 00000000", "twolines"} {
			if keys[label] == nil {
				t.Errorf("there is no %q", label)
			}
		}
		if len(keys) != 4 {
			t.Errorf("there are %d keys", len(keys))
		}
		if out, _ = m.importKeys(0, "--skip", "--relabel"); !strings.Contains(out, "0 fit, 4 are there already, 10 do not fit") {
			t.Errorf("again it said\n%s", out)
		}
	})
}

func TestAnIDThatIsTakenOrRevokedIsNotImported(t *testing.T) {
	t.Parallel()
	moveIns(t, func(t *testing.T, m *moveIn) {
		execSQL(t, m.theirs, rustTable+`
INSERT INTO keys (id, label, key_hash, permissions) SELECT ('00000000-0000-4000-8000-00000000000' || n)::uuid, 'key ' || n, '`+theirHash+`', '{a:b}'
FROM generate_series(1, 5) n`)
		m.importKeys(0)
		if _, said, status := m.run("revoke", "00000000-0000-4000-8000-000000000001", "--yes", "--store", m.store); status != 0 {
			t.Fatal(said)
		}
		out, said, status := m.run("create", "--label", "ours", "--json", "--store", m.store)
		if status != 0 {
			t.Fatal(said)
		}
		minted := out[strings.Index(out, `"id":"`)+6:][:36]
		execSQL(t, m.theirs, `UPDATE keys SET permissions = '{a:c}' WHERE label = 'key 2';
UPDATE keys SET key_hash = replace(key_hash, 't=2', 't=3'), expires_at = now() WHERE label = 'key 3';
UPDATE keys SET last_used_at = now() WHERE label = 'key 4'; UPDATE keys SET id = '`+minted+`' WHERE label = 'key 5'`)
		out, said = m.importKeys(1)
		for _, want := range []string{
			"0001  key 1  id was revoked here\n", "0002  key 2  id is there already, and differs in permissions\n",
			"0003  key 3  id is there already, and differs in hash, expires_at\n", "key 5  id belongs to a key that was minted here\n",
			"5 row(s): 0 fit, 1 are there already, 4 do not fit (id 4)\n",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("it did not say %q but\n%s%s", want, out, said)
			}
		}
		m.importKeys(0, "--skip")
		keys := m.keys()
		if keys["key 1"] != nil || len(keys) != 5 || keys["key 2"].Permissions[0] != "a:b" || keys["ours"].Foreign {
			t.Errorf("there are %v", keys)
		}
	})
}
