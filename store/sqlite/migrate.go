package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"slices"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

//go:embed migrations/*.sql
var scripts embed.FS

// migrations are the scripts of this program, in the order of their versions.
var migrations = sqlstore.LoadMigrations(scripts)

// Migrate implements [store.Store].
//
// Each migration is one transaction, which holds the lock of the writer. If several processes
// migrate at once, each waits, and finds that the version has grown.
func (s *Store) Migrate(ctx context.Context) error {
	version := func() (int, error) {
		return result(ctx, s.read, "migrate", func(tx *sql.Tx) (int, error) { return schemaVersion(ctx, tx) })
	}
	return migrations.Run(fmt.Sprintf("the schema in %q", s.path), version, func(next sqlstore.Migration) error {
		return s.write(ctx, "migrate: "+next.Name, func(tx *sql.Tx) error { return s.migrate(ctx, tx, next) })
	})
}

// migrate applies a migration, unless another process has done so since the version was read. A
// rollback takes back changes of the schema too.
func (s *Store) migrate(ctx context.Context, tx *sql.Tx, next sqlstore.Migration) error {
	current, err := schemaVersion(ctx, tx)
	if err != nil || current != next.Version-1 {
		return err
	}
	if _, err := tx.ExecContext(ctx, next.Script); err != nil {
		return err
	}
	if next.Version == 1 {
		key := sqlstore.NewMintKey()
		if _, err := tx.ExecContext(ctx, "INSERT INTO mint_key (only_row, key) VALUES (1, ?) ON CONFLICT DO NOTHING", key[:]); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO schema_migrations (version, name, applied_at) VALUES (?, ?, ?)",
		next.Version, next.Name, s.now().UnixMicro())
	return err
}

// schemaVersion returns the number of the last migration. It is 0 in an empty database.
func schemaVersion(ctx context.Context, tx *sql.Tx) (version int, err error) {
	var exists bool
	err = tx.QueryRowContext(ctx,
		"SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_migrations')").Scan(&exists)
	if err != nil || !exists {
		return 0, err
	}
	err = tx.QueryRowContext(ctx, "SELECT coalesce(max(version), 0) FROM schema_migrations").Scan(&version)
	return version, err
}

// Inspect implements [store.Store]. The clock of a file is that of this machine.
//
// At any version but the newest nothing else is looked at, since the tables may be others. A file
// has no roles and no disabled triggers, so Role, Lacking and Enable stay empty.
func (s *Store) Inspect(ctx context.Context) (*store.Inspection, error) {
	return result(ctx, s.read, "inspect", func(tx *sql.Tx) (*store.Inspection, error) {
		found := &store.Inspection{Newest: len(migrations), Now: s.now()}
		var err error
		if found.Version, err = schemaVersion(ctx, tx); err != nil || found.Version != found.Newest {
			return found, err
		}
		there, err := collect(ctx, tx, sqlstore.ScanText, "SELECT name FROM sqlite_schema WHERE type = 'trigger'")
		// A trigger is there or it is not: no statement of SQLite disables one.
		found.Triggers = slices.DeleteFunc(migrations.Triggers(), func(name string) bool { return slices.Contains(there, name) })
		if err != nil {
			return nil, err
		}
		err = tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM system_keys WHERE networks <> '[]')").Scan(&found.Bound)
		return found, err
	})
}

// MintKey implements [store.Store].
func (s *Store) MintKey(ctx context.Context) (store.MintKey, error) {
	return result(ctx, s.read, "read the mint key", func(tx *sql.Tx) (store.MintKey, error) { return mintKey(ctx, tx) })
}

// mintKey reads the mint key, which the first migration has stored.
func mintKey(ctx context.Context, tx *sql.Tx) (store.MintKey, error) {
	return sqlstore.ScanMintKey(tx.QueryRowContext(ctx, "SELECT key FROM mint_key"))
}
