package sqlite

import (
	"context"
	"database/sql"
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
