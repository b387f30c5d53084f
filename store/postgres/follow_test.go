package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/movein"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
)

// theirTable is the table of a service that uses sqlx.
const theirTable = `CREATE TABLE public.keys (
	id uuid PRIMARY KEY, label text, key_hash text, permissions text[],
	created_at timestamptz NOT NULL DEFAULT '2024-03-01 12:30:00.123456Z', last_used_at timestamptz, expires_at timestamptz)`

// followed is a store that follows the table of a service.
type followed struct {
	tb       testing.TB
	s        *postgres.Store
	dsn      string
	theirs   *pgx.Conn
	table    string
	progress func(rows int)
}

// unfollowed makes a store in a schema of its own beside the tables of a service.
func unfollowed(tb testing.TB, tables string) *followed {
	tb.Helper()
	dsn := testenv.Database(tb)
	f := &followed{tb: tb, dsn: dsn, s: openIn(tb, dsn, "own"), theirs: connect(tb, dsn), table: "public.keys", progress: func(int) {}}
	if err := f.s.Migrate(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	f.run(tables)
	return f
}

// following is unfollowed, and has the store follow the table.
func following(tb testing.TB, tables string) *followed {
	tb.Helper()
	f := unfollowed(tb, tables)
	f.mustFollow()
	return f
}

func (f *followed) mustFollow() (added int) {
	f.tb.Helper()
	added, err := f.follow(f.tb.Context())
	if err != nil {
		f.tb.Fatal(err)
	}
	return added
}

// follow does what the command does.
func (f *followed) follow(ctx context.Context) (added int, err error) {
	f.tb.Helper()
	columns, err := movein.Columns(nil)
	if err != nil {
		f.tb.Fatal(err)
	}
	var layout movein.Layout
	from := &movein.Source{Table: f.table, Columns: columns, Target: f.s, Follow: true, Found: func(l movein.Layout) { layout = l }}
	if err := open(f.tb, f.dsn).ReadTable(ctx, from, func(*movein.Row) error { return nil }); err != nil {
		return 0, err
	}
	return f.s.FollowTable(ctx, layout, false, f.progress)
}

// mark ends the names of the triggers.
func (f *followed) mark() (mark string) {
	f.tb.Helper()
	err := f.theirs.QueryRow(f.tb.Context(), "SELECT replace(tgname, 'sidecar_follow_insert', '') FROM pg_trigger WHERE tgname LIKE 'sidecar_follow_insert%'").Scan(&mark)
	if err != nil {
		f.tb.Fatal(err)
	}
	return mark
}

// run runs statements of the service. They must not fail.
func (f *followed) run(statements string) {
	f.tb.Helper()
	if _, err := f.theirs.Exec(f.tb.Context(), statements); err != nil {
		f.tb.Fatalf("%s: %v", statements, err)
	}
}

// is compares what a query returns, as text.
func (f *followed) is(query, want string) {
	f.tb.Helper()
	var got string
	if err := f.theirs.QueryRow(f.tb.Context(), "SELECT coalesce(("+query+")::text, 'NULL')").Scan(&got); err != nil {
		f.tb.Errorf("%s: %v", query, err)
	} else if got != want {
		f.tb.Errorf("%s is %s, want %s", query, got, want)
	}
}

const ours = "SELECT string_agg(label || array_to_string(permissions, ' '), ', ' ORDER BY label) FROM own.system_keys"

func theirRow(label string) string {
	return "INSERT INTO keys VALUES (gen_random_uuid(), '" + label + "', '" + hash + "', '{a:b}');"
}

func TestEveryChangeIsCarriedOver(t *testing.T) {
	t.Parallel()
	f := following(t, theirTable+";"+theirRow("one")+theirRow("two"))
	f.is(ours, "onea:b, twoa:b")
	for _, c := range []struct{ name, statements, want string }{
		{"an insert", theirRow("three"), "onea:b, threea:b, twoa:b"},
		{"several", theirRow("four") + "INSERT INTO keys SELECT gen_random_uuid(), 'five', key_hash FROM keys WHERE label = 'one'", "five, foura:b, onea:b, threea:b, twoa:b"},
		{"one that is rolled back", "BEGIN; DELETE FROM keys; ROLLBACK", "five, foura:b, onea:b, threea:b, twoa:b"},
		{"a deletion", "DELETE FROM keys WHERE label IN ('four', 'five')", "onea:b, threea:b, twoa:b"},
		{"permissions", "UPDATE keys SET permissions = '{c:d,a:b}' WHERE label = 'one'", "onea:b c:d, threea:b, twoa:b"},
		{"a label", "UPDATE keys SET label = 'uno' WHERE label = 'one'", "threea:b, twoa:b, unoa:b c:d"},
		{"an id", "UPDATE keys SET id = gen_random_uuid() WHERE label = 'uno'", "threea:b, twoa:b, unoa:b c:d"},
		{"an id there and back", "UPDATE keys SET id = 'aaaaaaaa-0000-4000-8000-000000000001' WHERE label = 'two';" +
			"UPDATE keys SET id = gen_random_uuid() WHERE label = 'two'; UPDATE keys SET id = 'aaaaaaaa-0000-4000-8000-000000000001' WHERE label = 'two'", "threea:b, twoa:b, unoa:b c:d"},
		{"in a savepoint", "BEGIN; SAVEPOINT s; DELETE FROM keys WHERE label = 'three'; RELEASE s; COMMIT", "twoa:b, unoa:b c:d"},
		{"deleted and brought back", "BEGIN; SAVEPOINT s; DELETE FROM keys WHERE label = 'two'; RELEASE s; COMMIT;" +
			"INSERT INTO keys VALUES ('aaaaaaaa-0000-4000-8000-000000000001', 'due', '" + hash + "')", "due, unoa:b c:d"},
		{"as a replica", "SET session_replication_role = replica; DELETE FROM keys WHERE label = 'due'; RESET session_replication_role", "unoa:b c:d"},
		{"by a trigger of theirs", "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.label = 'UNO'; RETURN NEW; END $$;" +
			"CREATE TRIGGER shout BEFORE UPDATE ON keys FOR EACH ROW EXECUTE FUNCTION shout(); UPDATE keys SET last_used_at = now(); DROP TRIGGER shout ON keys", "UNOa:b c:d"},
		{"TRUNCATE", "TRUNCATE keys", "NULL"},
		{"after it", theirRow("new"), "newa:b"},
	} {
		f.run(c.statements)
		if f.is(ours, c.want); t.Failed() {
			t.Fatal(c.name)
		}
	}
	f.is("SELECT count(*) FROM own.follow_unfit", "0")
	f.is("SELECT count(*) FROM own.system_keys WHERE minted OR created_by <> 'import'", "0")
	f.is("SELECT string_agg(DISTINCT actor_type || ' ' || actor, ', ') FROM own.audit_log", "sql import")
}

func TestALastUseIsNotCarriedOverAndFiresNothing(t *testing.T) {
	t.Parallel()
	f := following(t, theirTable+";"+theirRow("one"))
	f.run("UPDATE keys SET last_used_at = now(), created_at = created_at")
	f.is("SELECT last_used_at FROM own.system_keys", "NULL")
	f.run("CREATE TABLE fired (op text); CREATE FUNCTION own.spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.fired VALUES (TG_OP); RETURN NEW; END $$;" +
		"CREATE TRIGGER spy BEFORE UPDATE ON own.system_keys FOR EACH ROW EXECUTE FUNCTION own.spy(); UPDATE keys SET last_used_at = now()")
	f.is("SELECT count(*) FROM fired", "0")
	f.run("UPDATE keys SET label = 'uno', last_used_at = now()")
	f.is("SELECT count(*) FROM fired", "1")
	f.is("SELECT last_used_at FROM own.system_keys", "NULL")
}

func TestATurnSaysWhetherTheTableIsFollowed(t *testing.T) {
	t.Parallel()
	f := following(t, theirTable+";"+theirRow("one"))
	feed := follow(t, f.s)
	if err := feed.Join(t.Context(), &store.Member{ID: store.ID{7}, TTL: time.Minute}); err != nil {
		t.Fatal(err)
	}
	says := func(when string, unfollowed bool) {
		t.Helper()
		turn := &store.Turn{Member: store.ID{7}, Limit: 10}
		for name, call := range map[string]func(context.Context, *store.Turn) (*store.View, error){"Renew": feed.Renew, "Pull": feed.Pull} {
			if view, err := call(t.Context(), turn); err != nil || view.Unfollowed != unfollowed || !view.Watched {
				t.Errorf("%s, %s says %+v, %v", when, name, view, err)
			}
		}
	}
	again := func() {
		t.Helper()
		f.mustFollow()
		says("after another import", false)
	}
	says("at first", false)
	again()
	for _, event := range []string{"insert", "update", "delete", "truncate"} {
		trigger := "sidecar_follow_" + event + f.mark()
		for _, statement := range []string{
			"ALTER TABLE keys DISABLE TRIGGER " + trigger, "ALTER TABLE keys ENABLE TRIGGER " + trigger, "ALTER TABLE keys ENABLE REPLICA TRIGGER " + trigger,
			"ALTER TABLE keys ENABLE ALWAYS TRIGGER " + trigger, // it was disabled meanwhile
			"DROP TRIGGER " + trigger + " ON keys",
		} {
			f.run(statement)
			says(statement, true)
		}
		again()
	}
	for _, statement := range []string{
		"ALTER TABLE keys RENAME TO other; CREATE TABLE keys (LIKE other INCLUDING ALL)", "ALTER TABLE keys DROP COLUMN permissions CASCADE; ALTER TABLE keys ADD permissions text[]",
		"DROP TABLE keys; " + theirTable,
	} {
		f.run(statement)
		says(statement, true)
		again()
	}
	f.run("DROP TABLE keys")
	says("without the table", true)
	if table, err := f.s.UnfollowTable(t.Context()); table != `"public"."keys"` || err != nil {
		t.Errorf("UnfollowTable = %q, %v", table, err)
	}
	says("at the end", false)
}

// TestASessionOfAnImportedKeyEndsWithTheFollow, since the key may be revoked there.
func TestASessionOfAnImportedKeyEndsWithTheFollow(t *testing.T) {
	t.Parallel()
	f := following(t, theirTable+";"+theirRow("one"))
	var id store.ID
	if err := f.theirs.QueryRow(t.Context(), "SELECT id FROM keys").Scan((*[16]byte)(&id)); err != nil {
		t.Fatal(err)
	}
	imported, ours := signIn(t, f.s, &store.Key{ID: id}), signIn(t, f.s, sample(t, f.s, "ours"))
	if !signedIn(t, f.s, imported) || !signedIn(t, f.s, ours) {
		t.Error("a session is over already")
	}
	f.run("ALTER TABLE keys DISABLE TRIGGER ALL")
	if signedIn(t, f.s, imported) || !signedIn(t, f.s, ours) {
		t.Error("the session of the imported key lives on, or the other one does not")
	}
}
