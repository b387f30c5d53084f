package sqlite_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
	"github.com/lumio-vision/caddy-system-keys/store/storetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(tb testing.TB) *storetest.Backend {
		path := filepath.Join(tb.TempDir(), "keys.db")
		return &storetest.Backend{
			Open: func(tb testing.TB) store.Store { return open(tb, path, sqlite.Options{}) },
			Outdate: func(tb testing.TB) {
				execute(tb, path, "INSERT INTO schema_migrations VALUES (9999, 'from the future', 0)")
			},
			Exec:    func(tb testing.TB, statement string) { execute(tb, path, statement) },
			Unwatch: "DROP TRIGGER system_keys_log_delete",
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
	s, meter := open(t, filepath.Join(t.TempDir(), "keys.db"), sqlite.Options{}), new(told)
	s.Observe(meter)
	storetest.Shown(t, s, func() []string {
		operations := meter.operations
		meter.operations = nil
		return operations
	})
}

// open opens a store that its test closes.
func open(tb testing.TB, path string, opts sqlite.Options) *sqlite.Store {
	tb.Helper()
	s, err := sqlite.Open(context.WithoutCancel(tb.Context()), path, opts)
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

// raw opens the file as another program would.
func raw(tb testing.TB, path string) *sql.DB {
	tb.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	db.SetMaxOpenConns(1)
	return db
}

// execute runs a statement as another program would.
func execute(tb testing.TB, path, statement string, args ...any) {
	tb.Helper()
	if _, err := raw(tb, path).Exec(statement, args...); err != nil {
		tb.Fatal(err)
	}
}
