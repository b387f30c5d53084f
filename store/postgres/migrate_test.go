package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestMigrateLetsReadersPass has a transaction that has read the keys, as a backup
// does, go on for as long as another reader needs who comes after the migration.
func TestMigrateLetsReadersPass(t *testing.T) {
	t.Parallel()
	dsn, _ := ofBefore(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	backup, err := connect(t, dsn).BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Exec(ctx, "SELECT FROM system_keys"); err != nil {
		t.Fatal(err)
	}
	s := open(t, dsn)
	done := make(chan error, 1)
	go func() { done <- s.Migrate(ctx) }()
	reader := connect(t, dsn)
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
	dsn, _ := ofBefore(t)
	backup, err := connect(t, dsn).BeginTx(t.Context(), pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Exec(t.Context(), "SELECT FROM system_keys"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // within the first pause
	defer cancel()
	err = open(t, dsn).Migrate(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Migrate = %v, want context.DeadlineExceeded", err)
	}
	if err := backup.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
}
