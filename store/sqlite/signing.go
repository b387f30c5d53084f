package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

const publishSigningKey = `
INSERT INTO signing_key (id, public, expires_at) VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at WHERE public = excluded.public`

// PublishSigningKey implements [store.Store].
func (s *Store) PublishSigningKey(ctx context.Context, key store.SigningKey, life time.Duration) error {
	return s.write(ctx, "publish a signing key", func(tx *sql.Tx) error {
		now := s.now()
		result, err := tx.ExecContext(ctx, publishSigningKey, key.ID, key.Public[:], now.Add(life).UnixMicro())
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, store.ErrConflict)
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM signing_key WHERE expires_at <= ?", now.UnixMicro())
		return err
	})
}

// SigningKeys implements [store.Store].
func (s *Store) SigningKeys(ctx context.Context) (keys []store.SigningKey, err error) {
	err = s.believe(ctx, "read the signing keys", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, "SELECT id, public, expires_at FROM signing_key WHERE expires_at > ? ORDER BY id",
			s.now().UnixMicro())
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }() // its error is Err's
		for rows.Next() {
			var key store.SigningKey
			var public []byte
			var expires int64
			if err := rows.Scan(&key.ID, &public, &expires); err != nil {
				return err
			}
			if copy(key.Public[:], public) != len(key.Public) {
				return errors.New("a key has the wrong length")
			}
			key.ExpiresAt = time.UnixMicro(expires).UTC()
			keys = append(keys, key)
		}
		return rows.Err()
	})
	return keys, err
}
