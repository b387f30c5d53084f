package testenv_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

func TestDatabaseIsEmptyAndPrivate(t *testing.T) {
	t.Parallel()
	one, two := connect(t, testenv.Database(t)), connect(t, testenv.Database(t))
	execute(t, one, "CREATE TABLE mine (n int)")
	const tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
	if got := number(t, one, tables); got != 1 {
		t.Errorf("the first database has %d tables, want 1", got)
	}
	if got := number(t, two, tables); got != 0 {
		t.Errorf("the second database has %d tables, want 0", got)
	}
}

func TestDatabaseIsDroppedWithItsTest(t *testing.T) { //nolint:tparallel // looks at what its subtest leaves
	t.Parallel()
	var dsn string
	t.Run("uses a database and leaves a connection open", func(t *testing.T) {
		dsn = testenv.Database(t)
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		execute(t, conn, "SELECT 1")
	})
	if conn, err := pgx.Connect(t.Context(), dsn); err == nil {
		_ = conn.Close(t.Context())
		t.Error("the database is still there")
	}
}

func TestDatabaseOnAServerElsewhere(t *testing.T) {
	elsewhere := testenv.StartPostgres(t)
	t.Setenv("SYSTEM_KEYS_TEST_POSTGRES", elsewhere.DSN("postgres"))
	conn := connect(t, testenv.Database(t))
	got := number(t, conn, "SELECT setting::int FROM pg_settings WHERE name = 'port'")
	if _, port, _ := net.SplitHostPort(elsewhere.Addr()); port != strconv.Itoa(got) {
		t.Errorf("the database is on port %d, want %s", got, port)
	}
}
