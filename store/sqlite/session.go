package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// insertSession takes the key's id from its row, so that without one there is
// nothing to insert. The transaction is the only one that writes.
const insertSession = "INSERT INTO session (digest, key_id, expires_at) SELECT ?, id, ? FROM system_keys WHERE id = ?"

// CreateSession implements [store.Sessions].
func (s *Store) CreateSession(ctx context.Context, session *store.Session) error {
	return s.write(ctx, "create a session", func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, insertSession, session.Digest[:], session.ExpiresAt.UnixMicro(), session.Key.String())
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return store.ErrActorGone
	})
}

// selectSession gives the key of a session.
const selectSession = "SELECT " + columns + " FROM system_keys " +
	"WHERE id = (SELECT key_id FROM session WHERE digest = ? AND expires_at > ?)"

// Session implements [store.Sessions].
func (s *Store) Session(ctx context.Context, digest [32]byte, now time.Time) (*store.Key, error) {
	var key *store.Key
	err := s.believe(ctx, "read a session", func(tx *sql.Tx) (err error) {
		key, err = scanKey(tx.QueryRowContext(ctx, selectSession, digest[:], now.UnixMicro()))
		return err
	})
	if err != nil {
		return nil, err
	}
	return key, nil
}

// EndSession implements [store.Sessions].
func (s *Store) EndSession(ctx context.Context, digest [32]byte) error {
	return s.write(ctx, "end a session", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM session WHERE digest = ?", digest[:])
		return err
	})
}

// SpendNonce implements [store.Sessions].
func (s *Store) SpendNonce(ctx context.Context, digest [32]byte, expires time.Time) error {
	return s.write(ctx, "spend a nonce", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO nonce (digest, expires_at) VALUES (?, ?)", digest[:], expires.UnixMicro())
		return err
	})
}

// pruneSessions are the statements that remove what is over.
var pruneSessions = []string{pruneFrom("session"), pruneFrom("nonce")}

func pruneFrom(table string) string {
	return "DELETE FROM " + table + " WHERE digest IN (" +
		"SELECT digest FROM " + table + " WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)"
}

// PruneSessions implements [store.Sessions].
func (s *Store) PruneSessions(ctx context.Context, now time.Time, limit int) (pruned int, err error) {
	err = s.write(ctx, "prune sessions", func(tx *sql.Tx) error {
		pruned = 0
		for _, statement := range pruneSessions {
			result, err := tx.ExecContext(ctx, statement, now.UnixMicro(), limit)
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return err
			}
			pruned += int(n)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return pruned, nil
}

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
