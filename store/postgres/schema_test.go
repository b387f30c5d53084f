package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
)

// refusals are calls that servers and commands begin with, and a revocation.
func refusals(s store.Store) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"Migrate":   s.Migrate,
		"MintKey":   func(ctx context.Context) error { _, err := s.MintKey(ctx); return err },
		"Key":       func(ctx context.Context) error { _, err := s.Key(ctx, store.ID{1}); return err },
		"DeleteKey": func(ctx context.Context) error { _, err := s.DeleteKey(ctx, store.ID{1}, nil); return err },
		"Progress":  func(ctx context.Context) error { _, err := s.Progress(ctx, []store.ID{{1}}, nil); return err },
		"Follow":    func(ctx context.Context) error { _, err := s.Follow(ctx); return err },
	}
}

// refusedAs checks that every call of refusals is refused, and why.
func refusedAs(tb testing.TB, s store.Store, why string) {
	tb.Helper()
	for name, call := range refusals(s) {
		err := call(tb.Context())
		if _, refused := errors.AsType[*store.RefusedError](err); !refused || !strings.Contains(err.Error(), why) {
			tb.Errorf("%s: %v, want a refusal about %q", name, err, why)
		}
	}
}

// TestADSNThatLeadsToAnotherTableIsRefused has a copy of the table where a DSN without
// search_path leads to. A revocation would report success, and the key would stay good.
func TestADSNThatLeadsToAnotherTableIsRefused(t *testing.T) {
	t.Parallel()
	dsn := testenv.Database(t)
	execute(t, dsn, "CREATE SCHEMA a")
	execute(t, dsn, "CREATE SCHEMA b")
	s := open(t, searching(t, dsn, "a"))
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := sample(t, s, "in use")
	for name, dsn := range map[string]string{"b": searching(t, dsn, "b"), "no schema": searching(t, dsn, "nowhere")} {
		t.Log("a search_path that leads to", name)
		refusedAs(t, open(t, dsn), "leads to no table")
	}
	// Nothing else depends on search_path.
	without := open(t, dsn)
	if err := without.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	sample(t, without, "made without search_path")
	found(t, s, "", 2)
	found(t, without, "use", 1)

	execute(t, dsn, "CREATE TABLE public.system_keys (LIKE a.system_keys INCLUDING ALL)")
	execute(t, dsn, "INSERT INTO public.system_keys SELECT * FROM a.system_keys")
	refusedAs(t, open(t, dsn), `"public"`)
	refusedAs(t, open(t, searching(t, dsn, "b,public")), `"public"`)
	s = open(t, searching(t, dsn, "a"))
	if err := s.Migrate(t.Context()); err != nil {
		t.Errorf("a DSN that leads to the table: %v", err)
	}
	if _, err := s.DeleteKey(t.Context(), key.ID, nil); err != nil {
		t.Error(err)
	}
	var copied int
	if err := connect(t, dsn).QueryRow(t.Context(), "SELECT count(*) FROM public.system_keys").Scan(&copied); err != nil || copied != 2 {
		t.Errorf("the copy has %d rows, %v", copied, err)
	}
}

// TestATableOfAnotherProgramIsLeftAlone has a service with a table system_keys of its own.
func TestATableOfAnotherProgramIsLeftAlone(t *testing.T) {
	t.Parallel()
	dsn := testenv.Database(t)
	execute(t, dsn, "CREATE TABLE system_keys (id uuid, label text, key_hash text)")
	execute(t, dsn, "CREATE SCHEMA theirs CREATE TABLE system_keys (id uuid)")
	for schema, why := range map[string]string{"": "schema <name>", "theirs": "another schema"} {
		err := openIn(t, dsn, schema).Migrate(t.Context())
		if _, refused := errors.AsType[*store.RefusedError](err); !refused || !strings.Contains(err.Error(), why) {
			t.Errorf("schema %q: %v, want a refusal about %q", schema, err, why)
		}
	}
	s := openIn(t, dsn, oddName)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := sample(t, s, "ours")
	own := pgx.Identifier{oddName}.Sanitize()
	execute(t, dsn, "CALL "+own+".revoke('"+key.ID.String()+"')")
	execute(t, dsn, "CALL "+own+".barrier()")
	found(t, s, "", 0)
	var theirs int
	if err := connect(t, dsn).QueryRow(t.Context(), "SELECT count(*) FROM public.system_keys").Scan(&theirs); err != nil || theirs != 0 {
		t.Errorf("their table has %d rows, %v", theirs, err)
	}
}

// TestTheSchemaMustBeSafe has a schema in which anybody could put a function in the place of
// one of ours, which runs with our rights.
func TestTheSchemaMustBeSafe(t *testing.T) {
	t.Parallel()
	dsn := testenv.Database(t)
	execute(t, dsn, "CREATE SCHEMA open")
	execute(t, dsn, "GRANT CREATE ON SCHEMA open TO PUBLIC")
	err := openIn(t, dsn, "open").Migrate(t.Context())
	if _, refused := errors.AsType[*store.RefusedError](err); !refused || !strings.Contains(err.Error(), "everybody") {
		t.Errorf("Migrate = %v, want a refusal", err)
	}
	execute(t, dsn, "REVOKE CREATE ON SCHEMA open FROM PUBLIC")
	if err := openIn(t, dsn, "open").Migrate(t.Context()); err != nil {
		t.Errorf("Migrate = %v", err)
	}
	execute(t, dsn, "ALTER SCHEMA open RENAME TO renamed")
	refusedAs(t, openIn(t, dsn, "renamed"), `"open"`)
}

func TestTheNameOfASchemaIsChecked(t *testing.T) {
	t.Parallel()
	for name, good := range map[string]bool{
		"keys": true, oddName: true, "ä": true, "public": true, strings.Repeat("x", 63): true, "Sidecar": true,
		"": false, strings.Repeat("x", 64): false, strings.Repeat("ä", 32): false, "a\x00b": false, "a\xff": false,
		"pg_mine": false, "sidecar": false,
	} {
		if err := postgres.CheckSchema(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := postgres.Open(t.Context(), "postgres:///keys", postgres.Options{Schema: name}); name != "" && (err == nil) != good {
			t.Errorf("Open in %q: %v", name, err)
		}
	}
}

// neighbours are two stores in one database, the first in the default schemas.
func neighbours(tb testing.TB) (stores [2]*postgres.Store, dsn string) {
	tb.Helper()
	dsn = testenv.Database(tb)
	for i, schema := range []string{"", oddName} {
		stores[i] = openIn(tb, dsn, schema)
		if err := stores[i].Migrate(tb.Context()); err != nil {
			tb.Fatal(err)
		}
	}
	return stores, dsn
}

// TestALongTransactionInOneStoreDelaysNothingInAnother has a transaction hold each lock of
// one store, as a migration, the summing of the counter and a service in the middle of a
// commit do.
func TestALongTransactionInOneStoreDelaysNothingInAnother(t *testing.T) {
	t.Parallel()
	stores, dsn := neighbours(t)
	own := pgx.Identifier{oddName}.Sanitize()
	for i, tables := range []struct{ keys, own string }{{"public.system_keys", "sidecar"}, {own + ".system_keys", own}} {
		held, free := stores[i], stores[1-i]
		kept := sample(t, held, "held")
		tx, err := connect(t, dsn).Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, statement := range []string{
			"DELETE FROM " + tables.keys, "SET CONSTRAINTS ALL IMMEDIATE", // the lock of the log, as a COMMIT takes it
			"LOCK TABLE " + tables.keys + ", " + tables.own + ".member, " + tables.own + ".audit_log IN ACCESS EXCLUSIVE MODE",
			"SELECT pg_advisory_xact_lock(7813005878121160555), pg_advisory_xact_lock(7813005878121160556), pg_advisory_xact_lock(1801942375, 2)",
		} {
			if i == 1 && strings.HasPrefix(statement, "SELECT") {
				continue // those are the default's
			}
			if _, err := tx.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := free.Migrate(ctx); err != nil {
			t.Errorf("Migrate = %v", err)
		}
		feed := follow(t, free)
		if err := feed.Join(ctx, &store.Member{ID: store.ID{7}, TTL: time.Minute}); err != nil {
			t.Errorf("Join = %v", err)
		}
		key := sample(t, free, "free")
		if _, err := free.DeleteKey(ctx, key.ID, nil); err != nil {
			t.Errorf("DeleteKey = %v", err)
		}
		if _, err := free.Barrier(ctx); err != nil {
			t.Errorf("Barrier = %v", err)
		}
		if view, err := feed.Renew(ctx, &store.Turn{Member: store.ID{7}, Limit: 10}); err != nil || !view.Member || !view.Watched {
			t.Errorf("Renew = %+v, %v", view, err)
		}
		found(t, free, "", 0)
		if err := free.Leave(ctx, store.ID{7}); err != nil {
			t.Errorf("Leave = %v", err)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := held.DeleteKey(t.Context(), kept.ID, nil); err != nil {
			t.Error(err)
		}
	}
}

// TestAStoreCanBeMadeBesideAnother while a transaction holds the lock of a migration of the
// other.
func TestAStoreCanBeMadeBesideAnother(t *testing.T) {
	t.Parallel()
	_, dsn := neighbours(t)
	tx, err := connect(t, dsn).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT pg_advisory_xact_lock(7813005878121160555)"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := openIn(t, dsn, "third").Migrate(ctx); err != nil {
		t.Error(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestAStoreIsNotWokenByAnother listens as the default store does.
func TestAStoreIsNotWokenByAnother(t *testing.T) {
	t.Parallel()
	stores, dsn := neighbours(t)
	conn := connect(t, dsn)
	if _, err := conn.Exec(t.Context(), "LISTEN system_keys"); err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int]string{1: "the end", 0: ""} {
		if _, err := stores[i].Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		execute(t, dsn, "SELECT pg_notify('system_keys', 'the end')")
		got, err := conn.WaitForNotification(t.Context())
		if err != nil || got.Payload != want {
			t.Errorf("after a change in store %d: %+v, %v, want %q", i, got, err, want)
		}
		for err == nil && got.Payload != "the end" {
			got, err = conn.WaitForNotification(t.Context())
		}
	}
}

// TestOneTransactionMayInsertIntoTwoStores: each of them logs that it has.
func TestOneTransactionMayInsertIntoTwoStores(t *testing.T) {
	t.Parallel()
	stores, dsn := neighbours(t)
	var before [2]*store.View
	var feeds [2]store.Feed
	for i, s := range stores {
		feeds[i] = follow(t, s)
		before[i] = pull(t, feeds[i], store.Position{})
	}
	const columns = " (label, key_hash) VALUES ('new', '" + hash + "')"
	own := pgx.Identifier{oddName}.Sanitize()
	execute(t, dsn, "BEGIN; INSERT INTO public.system_keys"+columns+"; INSERT INTO "+own+".system_keys"+columns+"; COMMIT")
	for i := range stores {
		if got := kinds(t, feeds[i], before[i].Head); got != "i" {
			t.Errorf("store %d has logged %q", i, got)
		}
	}
}
