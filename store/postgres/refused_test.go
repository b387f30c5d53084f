package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// names stand where somebody may have put a password by mistake.
const (
	oddUser     = "hunter2_user"
	oddDatabase = "hunter2_database"
)

// with returns a DSN with another user and password, and another database.
func with(tb testing.TB, dsn, user, password, database string) string {
	tb.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		tb.Fatal(err)
	}
	if user != "" {
		u.User = url.UserPassword(user, password)
	}
	if database != "" {
		u.Path = "/" + database
	}
	return u.String()
}

// guarded is a server that asks some of its users for a password, and lets others
// not in.
func guarded(tb testing.TB) (*testenv.Postgres, string) {
	tb.Helper()
	server := testenv.StartPostgres(tb)
	dsn := server.Database()
	file := filepath.Join(server.Folder(), "data", "pg_hba.conf")
	rules, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	rules = append([]byte("host all "+oddUser+" all scram-sha-256\nhost all outcast all reject\n"), rules...)
	if err := os.WriteFile(file, rules, 0o644); err != nil {
		tb.Fatal(err)
	}
	execute(tb, dsn, "CREATE ROLE "+oddUser+" LOGIN PASSWORD 'right'")
	execute(tb, dsn, "CREATE ROLE outcast LOGIN")
	execute(tb, dsn, "CREATE ROLE lesser LOGIN")
	execute(tb, dsn, "CREATE ROLE lost LOGIN SUPERUSER")
	execute(tb, dsn, "ALTER ROLE lost SET search_path = nowhere")
	execute(tb, dsn, "CREATE ROLE late LOGIN CONNECTION LIMIT 0")
	execute(tb, dsn, "SELECT pg_reload_conf()")
	return server, dsn
}

func TestARefusalIsToldFromAnOutage(t *testing.T) {
	t.Parallel()
	server, dsn := guarded(t)
	foreign, newer, readOnly := server.Database(), server.Database(), server.Database()
	execute(t, foreign, "CREATE TABLE system_keys (a int)")
	future := open(t, newer)
	if err := future.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	execute(t, newer, "INSERT INTO sidecar.schema_migrations (version, name) VALUES (9999, 'of the future')")
	execute(t, readOnly, "ALTER ROLE lesser SET default_transaction_read_only = on")
	eventually(t, "the rules are in force", func() bool {
		err := open(t, with(t, dsn, oddUser, "hunter2", "")).Migrate(t.Context())
		return err != nil && strings.Contains(err.Error(), "28P01")
	})

	standby := testenv.StartPostgres(t)
	waiting := standby.Database()
	demote(t, standby)
	pooler := testenv.StartPooler(t, server)
	elsewhere := func(user, database string) string {
		return "postgres://" + user + "@" + pooler.Addr() + "/" + database + "?sslmode=disable"
	}
	statements := testenv.StartPooler(t, server, testenv.Setting("pool_mode", "statement"))
	for name, test := range map[string]struct {
		dsn     string
		refused bool
		want    string
	}{
		"a wrong password (28P01)":      {with(t, dsn, oddUser, "hunter2", ""), true, "password is wrong"},
		"no such user (28000)":          {with(t, dsn, "hunter2", "", ""), true, "28000"},
		"a user that is not let in":     {with(t, dsn, "outcast", "", ""), true, "pg_hba.conf"},
		"no such database (3D000)":      {with(t, dsn, "", "", oddDatabase), true, "no such database"},
		"a table of somebody":           {foreign, true, "schema <name>"},
		"no rights (42501)":             {with(t, server.Database(), oddUser, "right", ""), true, "42501"},
		"no schema to be in":            {with(t, server.Database(), "lost", "", ""), true, "search_path"},
		"an unknown parameter (42704)":  {dsn + "&options=-c%20hunter2%3D1", true, "parameter of the DSN"},
		"a schema of a newer program":   {newer, true, "9999"},
		"a pooler in statement mode":    {"postgres://postgres@" + statements.Addr() + "/" + strings.TrimPrefix(mustPath(t, dsn), "/") + "?sslmode=disable", true, "statement mode"},
		"a read-only role (25006)":      {with(t, readOnly, "lesser", "", ""), false, "read-only"},
		"no connection left (53300)":    {with(t, dsn, "late", "", ""), false, "no connection left"},
		"a standby (25006)":             {waiting, false, "read-only"},
		"a server that is not there":    {"postgres://hunter2@127.0.0.1:1/hunter2?sslmode=disable", false, "connection refused"},
		"a host that is not known":      {"postgres://hunter2@nowhere.invalid/hunter2", false, "nowhere.invalid"},
		"a pooler without the database": {elsewhere("postgres", oddDatabase), false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := open(t, test.dsn).Migrate(ctx)
			_, refused := errors.AsType[*store.RefusedError](err)
			if err == nil || refused != test.refused || !strings.Contains(err.Error(), test.want) {
				t.Errorf("refused: %t, %v; want %t, %q", refused, err, test.refused, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("it repeats a name from the DSN: %v", err)
			}
		})
	}
}

func mustPath(tb testing.TB, dsn string) string {
	tb.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		tb.Fatal(err)
	}
	return u.Path
}

func eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("%s: not within 30 s", what)
		}
	}
}
