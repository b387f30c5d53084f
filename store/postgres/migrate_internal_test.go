package postgres

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
)

// later opens a migrated store once more, with a program that knows these migrations too.
func later(tb testing.TB, s *Store, scripts ...string) *Store {
	tb.Helper()
	newer, err := Open(context.WithoutCancel(tb.Context()), s.pool.Config().ConnString(), Options{Schema: s.schema})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = newer.Close() })
	newer.migrations = slices.Clone(migrations)
	for _, script := range scripts {
		next := sqlstore.Migration{Version: len(newer.migrations) + 1, Name: "later.sql", Script: script}
		newer.migrations = append(newer.migrations, next)
	}
	return newer
}

// another connects to the database of a store as another service would.
func another(tb testing.TB, s *Store) *pgx.Conn {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	conn, err := pgx.Connect(ctx, s.pool.Config().ConnString())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close(ctx) })
	return conn
}

// backup begins a transaction that has read the keys, as pg_dump does.
func backup(tb testing.TB, s *Store) pgx.Tx {
	tb.Helper()
	tx, err := another(tb, s).BeginTx(tb.Context(), pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := tx.Exec(tb.Context(), "SELECT FROM system_keys"); err != nil {
		tb.Fatal(err)
	}
	return tx
}

const addColumn = "ALTER TABLE system_keys ADD COLUMN later text"

// TestMigrateLetsReadersPass has a backup go on for as long as another reader needs who
// comes after the migration.
func TestMigrateLetsReadersPass(t *testing.T) {
	t.Parallel()
	s := empty(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	backup := backup(t, s)
	done := make(chan error, 1)
	newer := later(t, s, addColumn)
	go func() { done <- newer.Migrate(ctx) }()
	reader := another(t, s)
	for waiting := false; !waiting; {
		err := reader.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted "+
			"AND mode = 'AccessExclusiveLock' AND relation = 'system_keys'::regclass)").Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := reader.Exec(ctx, "SELECT FROM system_keys"); err != nil {
		t.Fatalf("who reads while a migration waits: %v", err)
	}
	if err := backup.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("Migrate = %v", err)
	}
}

// TestMigrateWaitsNoLongerThanItsContext has the context end while a migration pauses
// between two attempts.
func TestMigrateWaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	s := empty(t)
	backup := backup(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // within the first pause
	defer cancel()
	err := later(t, s, addColumn).Migrate(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Migrate = %v, want context.DeadlineExceeded", err)
	}
	if err := backup.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
}
