package postgres

import (
	"context"
	"embed"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

//go:embed migrations/*.sql
var scripts embed.FS

var migrations = sqlstore.LoadMigrations(scripts)

// migrationLock is the advisory lock that a migrating instance holds. The number is
// arbitrary. It must only differ from the locks of other programs on the same database.
const migrationLock = 0x6c6d5f7379735f6b // "lm_sys_k"

// Migrate implements [store.Store]. If another session holds a table, it tries again until
// the context ends, and never waits for long at once.
//
// If the schema is up to date, Migrate only reads. Else the role needs the right to create a
// table in the default schema, and a schema in the database. The latter is not needed if
// the role owns a schema named sidecar.
func (s *Store) Migrate(ctx context.Context) error {
	// The check runs in a transaction, since PgBouncer refuses one in its statement mode.
	if err := pgx.BeginTxFunc(ctx, s.pool, transaction, func(tx pgx.Tx) error { return checkServer(ctx, tx) }); err != nil {
		return explain("migrate", err)
	}
	version := func() (int, error) {
		version, err := schemaVersion(ctx, s.pool)
		return version, explain("migrate", err)
	}
	return s.migrations.Run("the schema", version, func(next sqlstore.Migration) error {
		err := pgx.BeginTxFunc(ctx, s.pool, transaction, func(tx pgx.Tx) error { return migrate(ctx, tx, next) })
		err = explain("migrate: "+next.Name, err)
		if code(err) == lockNotAvailable {
			err = pause(ctx, err)
		}
		return err
	})
}

// A migration locks the whole table that it changes. While it waits for that lock, behind a
// backup for instance, all later sessions wait behind it, readers too. So a migration waits
// for setLockTimeout only, and lets the others pass for lockPause before it tries again.
const (
	setLockTimeout = "SET LOCAL lock_timeout = '2s'"
	lockPause      = 2 * time.Second
)

// pause waits between two attempts. If the context ends, it returns the cause and err, which
// is the error of the last attempt.
func pause(ctx context.Context, err error) error {
	timer := time.NewTimer(lockPause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
	case <-timer.C:
		return nil
	}
}

func migrate(ctx context.Context, tx pgx.Tx, next sqlstore.Migration) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
		return err
	}
	current, err := schemaVersion(ctx, tx)
	if err != nil || current != next.Version-1 {
		return err
	}
	// The timeout does not hold for the lock above, whose holder migrates.
	if _, err := tx.Exec(ctx, setLockTimeout); err != nil {
		return err
	}
	if next.Version == 1 {
		if err := createSchema(ctx, tx); err != nil {
			return err
		}
	}
	// A query without arguments may hold several statements.
	if _, err := tx.Conn().PgConn().Exec(ctx, next.Script).ReadAll(); err != nil {
		return err
	}
	if next.Version == 1 {
		key := sqlstore.NewMintKey()
		if _, err := tx.Exec(ctx, "INSERT INTO sidecar.mint_key (key) VALUES ($1) ON CONFLICT DO NOTHING", key[:]); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, "INSERT INTO sidecar.schema_migrations (version, name) VALUES ($1, $2)", next.Version, next.Name)
	return err
}

// checkServer refuses servers that this package does not support.
func checkServer(ctx context.Context, tx pgx.Tx) error {
	var name string
	var version int
	err := tx.QueryRow(ctx, "SELECT version(), current_setting('server_version_num')::int").Scan(&name, &version)
	if err != nil {
		return err
	}
	return supported(name, version)
}

// minVersion is PostgreSQL 13.
const minVersion = 13_00_00

func supported(name string, version int) error {
	product, _, _ := strings.Cut(name, " ")
	switch {
	case product != "PostgreSQL":
		return &store.RefusedError{Err: fmt.Errorf("the server is %.40q, and a store needs PostgreSQL", product)}
	case version < minVersion:
		return &store.RefusedError{Err: fmt.Errorf("the server is PostgreSQL %d, and a store needs %d or later",
			version/1_00_00, minVersion/1_00_00)}
	}
	return nil
}

// createSchema creates the schema sidecar and the table of applied migrations.
func createSchema(ctx context.Context, tx pgx.Tx) error {
	var encoding string
	if err := tx.QueryRow(ctx, "SELECT current_setting('server_encoding')").Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return &store.RefusedError{Err: fmt.Errorf("the database has the encoding %s, and labels need UTF8", encoding)}
	}
	var exists bool
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'sidecar')").Scan(&exists); err != nil {
		return err
	}
	if !exists { // CREATE SCHEMA IF NOT EXISTS would need the right to create in any case
		if _, err := tx.Exec(ctx, "CREATE SCHEMA sidecar"); err != nil {
			return err
		}
	}
	for _, statement := range []string{
		"REVOKE ALL ON SCHEMA sidecar FROM PUBLIC",
		`CREATE TABLE sidecar.schema_migrations (
    version    int PRIMARY KEY,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)`,
	} {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// schemaVersion returns the number of the last migration. Without migrations it is 0.
func schemaVersion(ctx context.Context, db querier) (version int, err error) {
	var exists bool
	// This does not use to_regclass, which can answer from a cache older than the lock.
	err = db.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_tables "+
		"WHERE schemaname = 'sidecar' AND tablename = 'schema_migrations')").Scan(&exists)
	if err != nil || !exists {
		return 0, err
	}
	err = db.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM sidecar.schema_migrations").Scan(&version)
	return version, err
}

// MintKey implements [store.Store].
func (s *Store) MintKey(ctx context.Context) (store.MintKey, error) {
	key, err := mintKey(ctx, s.pool)
	return key, explain("read the mint key", err)
}

func mintKey(ctx context.Context, db querier) (store.MintKey, error) {
	return sqlstore.ScanMintKey(db.QueryRow(ctx, "SELECT key FROM sidecar.mint_key"))
}
