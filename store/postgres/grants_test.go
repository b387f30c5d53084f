package postgres_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
	"github.com/lumio-vision/caddy-system-keys/store/storetest"
)

// roles makes roles that may do nothing yet, and returns the DSN of each. Their names have to
// be quoted. They end with the test.
func roles(tb testing.TB, dsn string, names ...string) (dsns []string) {
	tb.Helper()
	admin := connect(tb, dsn)
	ctx := context.WithoutCancel(tb.Context())
	run := func(statement string) {
		if _, err := admin.Exec(ctx, statement); err != nil {
			tb.Errorf("%s: %v", statement, err)
		}
	}
	for _, name := range names {
		role := roleOf(dsn, name)
		quoted := pgx.Identifier{role}.Sanitize()
		run("CREATE ROLE " + quoted + " LOGIN")
		tb.Cleanup(func() {
			run("DROP OWNED BY " + quoted + " CASCADE; DROP ROLE " + quoted)
		})
		dsns = append(dsns, with(tb, dsn, role, "", ""))
	}
	return dsns
}

// roleOf is the role of that name in the tests of a database.
func roleOf(dsn, name string) string {
	config, _ := pgx.ParseConfig(dsn)
	return `it's "` + name + `" of ` + config.Database
}

// owner makes the role that migrates, as docs/operations/postgresql.md does, and returns its
// DSN.
func owner(tb testing.TB, dsn, schema string) string {
	tb.Helper()
	mine := roles(tb, dsn, "owner")[0]
	role := pgx.Identifier{roleOf(dsn, "owner")}.Sanitize()
	statement := "GRANT CREATE ON DATABASE " + strings.TrimPrefix(mustPath(tb, dsn), "/") + " TO " + role
	if schema == "" {
		statement += "; GRANT CREATE ON SCHEMA public TO " + role
	}
	execute(tb, dsn, statement)
	return mine
}

// granted migrates a store as its owner, and returns the owner's store and the DSN of a role
// with exactly the rights for a purpose.
func granted(tb testing.TB, schema, purpose string) (s *postgres.Store, dsn, lesser string) {
	tb.Helper()
	dsn = testenv.Database(tb)
	mine := owner(tb, dsn, schema)
	lesser = roles(tb, dsn, "lesser")[0]
	s = openIn(tb, mine, schema)
	if err := s.Migrate(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	grant(tb, s, mine, roleOf(dsn, "lesser"), purpose)
	return s, dsn, lesser
}

func grant(tb testing.TB, s *postgres.Store, owner, role, purpose string) {
	tb.Helper()
	statements, err := s.Grants(tb.Context(), role, purpose)
	if err != nil {
		tb.Fatal(err)
	}
	execute(tb, owner, strings.Join(statements, "; "))
}

// tenant is a store whose role has the rights of a server. What needs more, its owner does.
type tenant struct {
	*postgres.Store

	owner *postgres.Store
	grant func()
}

// Migrate has the owner migrate. The tenant finds that nothing is to be done.
func (t *tenant) Migrate(ctx context.Context) error {
	if err := t.owner.Migrate(ctx); err != nil {
		return err
	}
	t.grant()
	return t.Store.Migrate(ctx)
}

// Import needs the owner of the tables.
func (t *tenant) Import(ctx context.Context, fill func(to store.Recipient) error) error {
	return t.owner.Import(ctx, fill)
}

func (t *tenant) Close() error { return errors.Join(t.Store.Close(), t.owner.Close()) }

// servedBy is a backend that is opened by a role with the rights of a server.
func servedBy(tb testing.TB, schema string) *storetest.Backend {
	tb.Helper()
	dsn := testenv.Database(tb)
	mine := owner(tb, dsn, schema)
	lesser := roles(tb, dsn, "server")[0]
	b := backend(tb, dsn, schema)
	var once sync.Once // at the same time, two grants of one table would fail
	b.Open = func(tb testing.TB) store.Store {
		tb.Helper()
		t := &tenant{Store: openIn(tb, lesser, schema), owner: openIn(tb, mine, schema)}
		t.grant = func() { once.Do(func() { grant(tb, t.owner, mine, roleOf(dsn, "server"), postgres.ForServer) }) }
		return t
	}
	return b
}

func inSchemas(t *testing.T, test func(t *testing.T, schema, own, keys string)) {
	t.Helper()
	for _, schema := range []string{"", oddName} {
		own, keys := "sidecar.", "public.system_keys"
		if schema != "" {
			own = pgx.Identifier{schema}.Sanitize() + "."
			keys = own + "system_keys"
		}
		t.Run("schema "+schema, func(t *testing.T) {
			t.Parallel()
			test(t, schema, own, keys)
		})
	}
}

// forbids checks that the role may run none of the statements.
func forbids(tb testing.TB, dsn string, statements ...string) {
	tb.Helper()
	conn := connect(tb, dsn)
	for _, statement := range statements {
		_, err := conn.Exec(tb.Context(), statement)
		refusal, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || refusal.Code != "42501" { // insufficient privilege
			tb.Errorf("%s: %v, want a refusal", statement, err)
		}
	}
}

// nobodys are statements that only the owner may run.
func nobodys(own, keys string) []string {
	return []string{
		"CREATE TABLE " + own + "mine (n int)", "TRUNCATE " + keys,
		"ALTER TABLE " + keys + " DISABLE TRIGGER sidecar_delete", "DROP TABLE " + own + "audit_log",
		"UPDATE " + keys + " SET is_system = true", "UPDATE " + keys + " SET minted = true", "UPDATE " + keys + " SET permissions = '{a:b}'",
		"INSERT INTO " + own + "schema_migrations VALUES (9999, 'x')", "UPDATE " + own + "mint_key SET key = key",
		"INSERT INTO " + own + "change_log (rev, tag, op) VALUES (1, 1, 'b')", "UPDATE " + own + "audit_log SET actor = 'x'",
		"SELECT nextval('" + strings.ReplaceAll(own, "'", "''") + "rev_seq')",
	}
}

func TestTheRightsOfAServerHaveAnEnd(t *testing.T) {
	t.Parallel()
	inSchemas(t, func(t *testing.T, schema, own, keys string) {
		_, _, lesser := granted(t, schema, postgres.ForServer)
		forbids(t, lesser, nobodys(own, keys)...)
		s := openIn(t, lesser, schema)
		if err := s.Migrate(t.Context()); err != nil {
			t.Errorf("Migrate, which has nothing to do: %v", err)
		}
	})
}

func TestARoleThatOnlyRevokes(t *testing.T) {
	t.Parallel()
	inSchemas(t, func(t *testing.T, schema, own, keys string) {
		s, _, lesser := granted(t, schema, postgres.ForRevoking)
		feed := follow(t, s)
		head := pull(t, feed, store.Position{}).Head
		byCall, byDelete := sample(t, s, "by call"), sample(t, s, "by delete")
		sample(t, s, "kept")
		conn := connect(t, lesser)
		for _, statement := range []string{
			"CALL " + own + "revoke('" + byCall.ID.String() + "')",
			"CALL " + own + "revoke('" + byCall.ID.String() + "')", // of one that is gone
			"DELETE FROM " + keys + " WHERE id = '" + byDelete.ID.String() + "'",
			"CALL " + own + "barrier()",
		} {
			if _, err := conn.Exec(t.Context(), statement); err != nil {
				t.Errorf("%s: %v", statement, err)
			}
		}
		found(t, s, "", 1)
		// A call logs the key that it was asked for, and the trigger the row that is gone.
		if got := strings.ReplaceAll(kinds(t, feed, head), "i", ""); got != "ddddb" {
			t.Errorf("the feed has seen %q", got)
		}
		forbids(t, lesser, nobodys(own, keys)...)
		forbids(t, lesser, "SELECT label FROM "+keys, "SELECT key_hash FROM "+keys, "UPDATE "+keys+" SET last_used_at = now()",
			"INSERT INTO "+keys+" (label, key_hash) VALUES ('x', '"+hash+"')", "SELECT FROM "+own+"audit_log", "SELECT FROM "+own+"mint_key",
			"SELECT "+own+"append(NULL, 'f')", "SELECT "+own+"delete_key('"+byCall.ID.String()+"')", "DELETE FROM "+own+"member",
			"SELECT FROM "+own+"schema_migrations")
	})
}

func TestARoleThatOnlyReads(t *testing.T) {
	t.Parallel()
	inSchemas(t, func(t *testing.T, schema, own, keys string) {
		all, _, lesser := granted(t, schema, postgres.ForReading)
		secret := []byte("a secret of the audit log")
		key := &store.Key{ID: store.ID{1}, Label: "a worker", Hash: hash, Permissions: []string{"a:b"}, CreatedAt: time.Now(), CreatedBy: "test"}
		write := &store.Write{Sealer: audit.NewSealer(secret), Record: func(key *store.Key) store.AuditRecord {
			return store.AuditRecord{
				Event: store.AuditCreated, At: time.Now(), Actor: store.AuditActor{Type: "cli", ID: "cli"},
				Key: store.AuditKey{ID: key.ID, Label: key.Label},
			}
		}}
		if err := all.CreateKey(t.Context(), key, write); err != nil {
			t.Fatal(err)
		}
		s := openIn(t, lesser, schema)
		if err := s.Migrate(t.Context()); err != nil {
			t.Errorf("Migrate, which has nothing to do: %v", err)
		}
		found(t, s, "", 1)
		found(t, s, "WORK", 1)
		if page, err := s.Keys(t.Context(), &store.KeyQuery{Limit: 1, Sort: store.SortPermissions, UnusedSince: time.Now()}); err != nil || page.Total != 1 {
			t.Errorf("the list of unused keys: %+v, %v", page, err)
		}
		if permissions, err := s.Granted(t.Context(), 10); err != nil || len(permissions) != 1 {
			t.Errorf("the permissions in use: %v, %v", permissions, err)
		}
		if page, err := s.Audit(t.Context(), &store.AuditQuery{Limit: 10, Key: key.ID}); err != nil || len(page.Records) != 1 {
			t.Errorf("the audit log: %+v, %v", page, err)
		}
		if report, err := audit.Verify(t.Context(), s, [][]byte{secret}); err != nil || !report.OK(true) || len(report.Chains) != 1 {
			t.Errorf("the audit log verifies as %+v, %v", report, err)
		}
		forbids(t, lesser, nobodys(own, keys)...)
		forbids(t, lesser, "SELECT key_hash FROM "+keys, "SELECT * FROM "+keys, "SELECT FROM "+own+"mint_key", "SELECT FROM "+own+"session",
			"SELECT FROM "+own+"adopted_key", "DELETE FROM "+keys, "UPDATE "+keys+" SET last_used_at = now()",
			"INSERT INTO "+keys+" (label, key_hash) VALUES ('x', '"+hash+"')", "DELETE FROM "+own+"audit_log",
			"SELECT "+own+"append(NULL, 'f')", "CALL "+own+"revoke('"+key.ID.String()+"')")
	})
}

// TestGrantsNeedNoRights asks as a role that may do nothing, since it is the one that a
// configuration names before it has its rights.
func TestGrantsNeedNoRights(t *testing.T) {
	t.Parallel()
	dsn := testenv.Database(t)
	s := open(t, roles(t, dsn, "new")[0])
	if _, err := s.Grants(t.Context(), "app", postgres.ForServer); err == nil || !strings.Contains(err.Error(), "no schema of system keys") {
		t.Errorf("Grants of a store that is not there: %v", err)
	}
	execute(t, dsn, "CREATE SCHEMA elsewhere")
	if err := open(t, searching(t, dsn, "elsewhere")).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, purpose := range postgres.Purposes {
		statements, err := s.Grants(t.Context(), `the "app"`, purpose)
		if err != nil {
			t.Fatal(err)
		}
		if want := `GRANT USAGE ON SCHEMA "sidecar", "elsewhere" TO "the ""app"""`; statements[0] != want {
			t.Errorf("%s: %s, want %s", purpose, statements[0], want)
		}
		if text := strings.Join(statements, "\n"); !strings.Contains(text, `"elsewhere"."system_keys"`) || strings.Contains(text, "{") {
			t.Errorf("%s:\n%s", purpose, text)
		}
	}
	// Even in quotes, PostgreSQL takes public for everybody.
	for _, role := range []string{"public", "none", "", strings.Repeat("x", 64), "a\x00"} {
		if statements, err := s.Grants(t.Context(), role, postgres.ForServer); err == nil {
			t.Errorf("role %q: %v", role, statements)
		}
	}
	if _, err := s.Grants(t.Context(), "app", "everything"); err == nil {
		t.Error("there are grants for everything")
	}
}
