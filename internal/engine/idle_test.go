package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
)

// An instance at rest costs its database one statement for each turn, and no more than two
// connections. How many turns there are in a lease is tested in package coherence.
func TestAnInstanceAtRestSendsNothingButItsTurns(t *testing.T) {
	server := testenv.StartPostgres(t, testenv.Setting("log_statement", "all"), testenv.Setting("log_line_prefix", "[%a]"))
	dsn := server.Database()
	config := configOf(func(ctx context.Context) (store.Store, error) {
		return postgres.Open(context.WithoutCancel(ctx), dsn+"&pool_max_conn_idle_time=2s", postgres.Options{})
	})
	config.LastUsedInterval, config.AuditRetention, config.ExpiredRetention = time.Second, time.Hour, time.Hour
	e := newEngine(t, config)
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	awaitTurns := func(from, n int) (statements []string) {
		t.Helper()
		for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
			statements = statementsOf(t, server)
			turns := 0
			for _, s := range statements[from:] {
				if isTurn(s) {
					turns++
				}
			}
			if turns >= n {
				return statements
			}
			if time.Since(began) > 3*time.Minute {
				t.Fatalf("%d turns, not %d; the statements are\n%s", turns, n, strings.Join(statements, "\n"))
			}
		}
	}
	before := len(awaitTurns(0, 4)) // until then there is what a start does once
	for _, s := range awaitTurns(before, 5)[before:] {
		if !isTurn(s) {
			t.Errorf("at rest it has sent\n%s", s)
		}
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		var n int
		if err := conn.QueryRow(t.Context(), countConnections).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n <= 2 {
			break
		}
		if time.Since(began) > 3*time.Minute {
			t.Fatalf("%d connections are open", n)
		}
	}
}

const countConnections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'caddy-system-keys'"

// isTurn reports whether a statement is a turn that renews.
func isTurn(statement string) bool { return strings.Contains(statement, "renewed AS (") }

// statementsOf returns what instances have sent to a server, by its log.
func statementsOf(t testing.TB, server *testenv.Postgres) (statements []string) {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(server.Folder(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	// The lines of an entry but the first begin with a tab.
	for entry := range strings.SplitSeq(strings.ReplaceAll(string(log), "\n\t", " "), "\n") {
		for _, kind := range []string{"statement", "execute"} {
			if strings.HasPrefix(entry, fmt.Sprintf("[caddy-system-keys]LOG:  %s", kind)) {
				statements = append(statements, entry)
			}
		}
	}
	return statements
}
