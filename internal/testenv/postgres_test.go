package testenv_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

func TestPostgresSurvivesBeingKilled(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t, testenv.Durable())
	dsn := server.Database()
	before := connect(t, dsn)
	execute(t, before, "CREATE TABLE kept (n int)")
	execute(t, before, "INSERT INTO kept VALUES (42)")

	server.Kill()
	if err := before.Ping(t.Context()); err == nil {
		t.Fatal("a connection outlived the server")
	}
	if conn, err := pgx.Connect(t.Context(), dsn); err == nil {
		_ = conn.Close(t.Context())
		t.Fatal("a killed server was reached")
	}

	server.Start()
	if got := number(t, connect(t, dsn), "SELECT n FROM kept"); got != 42 {
		t.Errorf("after the restart the row is %d, want 42", got)
	}
}

func TestPostgresRestartsOnTheSameAddress(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t)
	dsn, addr := server.Database(), server.Addr()
	server.Restart()
	server.Stop()
	server.Stop()
	server.Start()
	if server.Addr() != addr {
		t.Errorf("the address moved from %s to %s", addr, server.Addr())
	}
	if got := number(t, connect(t, dsn), "SELECT 1"); got != 1 {
		t.Errorf("SELECT 1 gives %d", got)
	}
}

func TestPostgresAnswersNobodyWhilePaused(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t)
	dsn := server.Database()
	conn := connect(t, dsn)

	server.Pause()
	// The kernel holds the answer back for as long as the pause lasts, so that
	// the only thing that can end this call is its deadline.
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if other, err := pgx.Connect(short, dsn); err == nil {
		_ = other.Close(t.Context())
		t.Error("a paused server let somebody in")
	}

	answer := make(chan error, 1)
	go func() { answer <- conn.Ping(t.Context()) }()
	select {
	case err := <-answer:
		t.Errorf("a paused server answered: %v", err)
	case <-shortly():
	}
	server.Resume()
	if err := <-answer; err != nil {
		t.Errorf("the connection did not survive the pause: %v", err)
	}
}

func TestPostgresEndsWhilePaused(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testenv.Postgres){
		"killed":  (*testenv.Postgres).Kill,
		"stopped": (*testenv.Postgres).Stop,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.StartPostgres(t)
			server.Pause()
			end(server)
			server.Start()
			if got := number(t, connect(t, server.DSN("postgres")), "SELECT 1"); got != 1 {
				t.Errorf("SELECT 1 gives %d", got)
			}
		})
	}
}

func TestPostgresTakesSettings(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t, testenv.Durable(), testenv.Setting("max_connections", "7"))
	var durable, connections string
	err := connect(t, server.DSN("postgres")).QueryRow(t.Context(),
		"SELECT current_setting('fsync'), current_setting('max_connections')").Scan(&durable, &connections)
	if err != nil {
		t.Fatal(err)
	}
	if durable != "on" || connections != "7" {
		t.Errorf("fsync is %s and max_connections %s, want on and 7", durable, connections)
	}
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, statement string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func number(t *testing.T, conn *pgx.Conn, query string) int {
	t.Helper()
	var n int
	if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
