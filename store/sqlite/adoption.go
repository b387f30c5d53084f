package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// selectAdopted and selectUnadopted are for one digest and one era; see forMany.
const (
	selectAdopted = "SELECT k.id FROM adopted_key a JOIN system_keys k ON k.id = a.key_id AND k.minted = 0 " +
		"WHERE a.digest IN (?) LIMIT 1"
	selectUnadopted = "SELECT id, key_hash, count(*) OVER () FROM system_keys k INDEXED BY system_keys_foreign " +
		"WHERE minted = 0 AND (expires_at = 0 OR expires_at > ?) AND NOT EXISTS (" +
		"SELECT 1 FROM adopted_key a WHERE a.key_id = k.id AND a.era IN (?)) " +
		"ORDER BY created_at, id LIMIT ?"
)

// forMany makes the list of a statement one of so many placeholders, which may be
// none.
func forMany(statement string, n int) string {
	return strings.Replace(statement, "IN (?)", "IN ("+strings.TrimSuffix(strings.Repeat("?, ", n), ", ")+")", 1)
}

// Adopted implements [store.Adoption]. An entry never outlives the hash that it was
// made with, since there is one writer at a time.
func (s *Store) Adopted(ctx context.Context, digests [][32]byte) (id store.ID, err error) {
	err = s.read(ctx, "find an adopted key", func(tx *sql.Tx) error {
		var found string
		err := tx.QueryRowContext(ctx, forMany(selectAdopted, len(digests)), blobs(digests)...).Scan(&found)
		if errors.Is(err, sql.ErrNoRows) {
			return store.ErrNotFound
		}
		if err == nil {
			id, err = store.ParseID(found)
		}
		return err
	})
	return id, err
}

// Adopt implements [store.Adoption].
func (s *Store) Adopt(ctx context.Context, key *store.AdoptedKey) error {
	return s.write(ctx, "adopt a key", func(tx *sql.Tx) error {
		var hash string
		var minted bool
		err := tx.QueryRowContext(ctx, "SELECT key_hash, minted FROM system_keys WHERE id = ?", key.Key.String()).Scan(&hash, &minted)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return store.ErrNotFound
		case err != nil:
			return err
		case minted || hash != string(key.Hash):
			return store.ErrConflict
		}
		// REPLACE takes the place of every row that either constraint is broken by.
		_, err = tx.ExecContext(ctx, "INSERT OR REPLACE INTO adopted_key (digest, era, key_id) VALUES (?, ?, ?)",
			key.Digest[:], key.Era[:], key.Key.String())
		return err
	})
}

// Unadopted implements [store.Adoption].
func (s *Store) Unadopted(
	ctx context.Context, eras [][32]byte, now time.Time, limit int,
) (keys []store.Candidate, total int, err error) {
	args := append(append([]any{now.UnixMicro()}, blobs(eras)...), limit)
	err = s.read(ctx, "list keys to adopt", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, forMany(selectUnadopted, len(eras)), args...)
		if err != nil {
			return err
		}
		keys, total, err = candidates(rows)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return keys, total, nil
}

func candidates(rows *sql.Rows) (keys []store.Candidate, total int, err error) {
	defer func() { _ = rows.Close() }() // its error is Err's
	for rows.Next() {
		var id, hash string
		if err := rows.Scan(&id, &hash, &total); err != nil {
			return nil, 0, err
		}
		parsed, err := store.ParseID(id)
		if err != nil {
			return nil, 0, fmt.Errorf("column id: %w", err)
		}
		keys = append(keys, store.Candidate{ID: parsed, Hash: store.Hash(hash)})
	}
	return keys, total, rows.Err()
}

func blobs(values [][32]byte) []any {
	args := make([]any, len(values))
	for i := range values {
		args[i] = values[i][:]
	}
	return args
}
