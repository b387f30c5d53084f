package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// migrations are the files NNNN_name.sql, numbered from 1 without gaps. A file
// that was released is never edited; the schema changes by another file.
//
//go:embed migrations/*.sql
var migrations embed.FS

// Migrate implements [store.Store].
func (s *Store) Migrate(ctx context.Context) error {
	files, err := migrations.ReadDir("migrations")
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	for {
		var version int
		err := s.read(ctx, "migrate", func(tx *sql.Tx) (err error) {
			version, err = schemaVersion(ctx, tx)
			return err
		})
		if err != nil {
			return err
		}
		switch {
		case version == len(files):
			return nil
		case version > len(files):
			return fmt.Errorf("migrate: the schema in %q has version %d, and this program knows %d at most: "+
				"it was upgraded by a newer one", s.path, version, len(files))
		}
		if err := s.migrateFrom(ctx, version, files[version].Name()); err != nil {
			return err
		}
	}
}

// migrateFrom applies the file that follows version, unless another instance
// did so since the version was read.
func (s *Store) migrateFrom(ctx context.Context, version int, file string) error {
	script, err := migrations.ReadFile("migrations/" + file)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return s.write(ctx, "migrate: "+file, func(tx *sql.Tx) error {
		current, err := schemaVersion(ctx, tx)
		if err != nil || current != version {
			return err
		}
		if _, err := tx.ExecContext(ctx, string(script)); err != nil {
			return err
		}
		if version == 0 {
			if err := seed(ctx, tx); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO schema_migrations (version, name, applied_at) VALUES (?, ?, ?)",
			version+1, file, s.now().UnixMicro())
		return err
	})
}

// seed makes the mint key, which no file can hold.
func seed(ctx context.Context, tx *sql.Tx) error {
	var key store.MintKey
	_, _ = rand.Read(key[:]) // never fails
	_, err := tx.ExecContext(ctx, "INSERT INTO mint_key (only_row, key) VALUES (1, ?) ON CONFLICT DO NOTHING", key[:])
	return err
}

// schemaVersion returns the number of the last migration, 0 in an empty
// database.
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

// MintKey implements [store.Store].
func (s *Store) MintKey(ctx context.Context) (key store.MintKey, err error) {
	err = s.read(ctx, "read the mint key", func(tx *sql.Tx) (err error) {
		key, err = mintKey(ctx, tx)
		return err
	})
	return key, err
}

// mintKey reads the mint key.
func mintKey(ctx context.Context, tx *sql.Tx) (key store.MintKey, err error) {
	var b []byte
	err = tx.QueryRowContext(ctx, "SELECT key FROM mint_key").Scan(&b)
	if err == nil && copy(key[:], b) != len(key) {
		err = errors.New("it has the wrong length")
	}
	return key, err
}
