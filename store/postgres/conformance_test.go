package postgres_test

import (
	"context"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
	"github.com/lumio-vision/caddy-system-keys/store/storetest"
)

// oddName is a schema whose name has to be quoted everywhere.
const oddName = `Lumio "keys" $$ it's`

// TestConformance has a role with the rights of a server alone, and a schema whose name has to
// be quoted. In the default schemas, which most other tests of the package have as the owner, the
// groups that need most rights run, and with SOAK=1 the whole suite.
func TestConformance(t *testing.T) {
	t.Parallel()
	inDefault := []string{"keys", "acting", "rotation", "activity", "sessions", "granted", "signing keys", "moving", "adding", "adoption"}
	if os.Getenv("SOAK") != "" {
		inDefault = nil
	}
	for schema, groups := range map[string][]string{oddName: nil, "": inDefault} {
		t.Run("schema "+schema, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(tb testing.TB) *storetest.Backend { return servedBy(tb, schema) }, groups...)
		})
	}
}

// backend is a store in a schema, or in the default ones. Other services find its table by
// search_path.
func backend(tb testing.TB, dsn, schema string) *storetest.Backend {
	tb.Helper()
	own, services := "sidecar", dsn
	if schema != "" {
		own = pgx.Identifier{schema}.Sanitize()
		services = searching(tb, dsn, own)
	}
	return &storetest.Backend{
		Open: func(tb testing.TB) store.Store { return openIn(tb, dsn, schema) },
		Outdate: func(tb testing.TB) {
			execute(tb, dsn, "INSERT INTO "+own+".schema_migrations VALUES (9999, 'from the future')")
		},
		Exec:    func(tb testing.TB, statement string) { execute(tb, services, statement) },
		Unwatch: "ALTER TABLE system_keys DISABLE TRIGGER sidecar_delete",
		Schema:  own + ".",
	}
}

// searching returns a DSN with a search_path.
func searching(tb testing.TB, dsn, path string) string {
	tb.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		tb.Fatal(err)
	}
	query := u.Query()
	query.Set("search_path", path)
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // pgx takes a plus sign as it is
	return u.String()
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
	return openIn(tb, dsn, "")
}

// openIn opens a store in a schema of its own.
func openIn(tb testing.TB, dsn, schema string) *postgres.Store {
	tb.Helper()
	s, err := postgres.Open(context.WithoutCancel(tb.Context()), dsn, postgres.Options{Schema: schema})
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
