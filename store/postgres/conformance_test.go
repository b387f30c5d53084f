package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
	"github.com/lumio-vision/caddy-system-keys/store/storetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(tb testing.TB) *storetest.Backend {
		dsn := testenv.Database(tb)
		return &storetest.Backend{
			Open: func(tb testing.TB) store.Store { return open(tb, dsn) },
			Outdate: func(tb testing.TB) {
				execute(tb, dsn, "INSERT INTO sidecar.schema_migrations VALUES (9999, 'from the future')")
			},
			Exec:    func(tb testing.TB, statement string) { execute(tb, dsn, statement) },
			Unwatch: "ALTER TABLE system_keys DISABLE TRIGGER sidecar_log_delete",
			Schema:  "sidecar.",
		}
	})
}

// told is a meter that keeps the operations that it is told of.
type told struct {
	observe.Unmetered

	operations []string
}

func (m *told) StoreCalled(operation string, _ observe.Result, _ time.Duration) {
	m.operations = append(m.operations, operation)
}

func TestTheCallsThatARequestWaitsForAreShown(t *testing.T) {
	t.Parallel()
	s, meter := open(t, testenv.Database(t)), new(told)
	s.Observe(meter)
	storetest.Shown(t, s, func() []string {
		operations := meter.operations
		meter.operations = nil
		return operations
	})
}

// open opens a store that its test closes.
func open(tb testing.TB, dsn string) *postgres.Store {
	tb.Helper()
	s, err := postgres.Open(context.WithoutCancel(tb.Context()), dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return s
}

// connect connects to the database as another service would.
func connect(tb testing.TB, dsn string) *pgx.Conn {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := conn.Close(ctx); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return conn
}

// execute runs a statement as another service would.
func execute(tb testing.TB, dsn, statement string, args ...any) {
	tb.Helper()
	if _, err := connect(tb, dsn).Exec(tb.Context(), statement, args...); err != nil {
		tb.Fatal(err)
	}
}
