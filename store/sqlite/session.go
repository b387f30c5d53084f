package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// insertSession takes the key's id from its row. Without that row it inserts nothing. No
// other transaction writes at the same time.
const insertSession = "INSERT INTO session (digest, key_id, expires_at) SELECT ?, id, ? FROM system_keys WHERE id = ?"

// CreateSession implements [store.Sessions]. A digest that is taken is [store.ErrConflict], by
// the primary key.
func (s *Store) CreateSession(ctx context.Context, session *store.Session) (err error) {
	ctx, end := s.calls.Begin(ctx, "create_session")
	defer end(&err)
	return s.write(ctx, "create a session", func(tx *sql.Tx) error {
		n, err := changed(tx.ExecContext(ctx, insertSession, session.Digest[:], session.ExpiresAt.UnixMicro(), session.Key.String()))
		if err == nil && n == 0 {
			err = store.ErrActorGone
		}
		return err
	})
}

// selectSession gives the key of a session. The triggers have ended the sessions of a key that
// was deleted or rekeyed, so there is nothing else to compare.
const selectSession = "SELECT " + columns + " FROM system_keys " +
	"WHERE id = (SELECT key_id FROM session WHERE digest = ? AND expires_at > ?)"

// Session implements [store.Sessions]. Another history may hold a session that was ended since.
func (s *Store) Session(ctx context.Context, digest [32]byte, now time.Time) (_ *store.Key, err error) {
	ctx, end := s.calls.Begin(ctx, "session")
	defer end(&err)
	return result(ctx, s.readFollowed, "read a session", func(tx *sql.Tx) (*store.Key, error) {
		return scanKey(tx.QueryRowContext(ctx, selectSession, digest[:], now.UnixMicro()))
	})
}

// EndSession implements [store.Sessions]. It is durable, as every commit of this package is.
func (s *Store) EndSession(ctx context.Context, digest [32]byte) (err error) {
	ctx, end := s.calls.Begin(ctx, "end_session")
	defer end(&err)
	_, err = s.exec(ctx, "end a session", "DELETE FROM session WHERE digest = ?", digest[:])
	return err
}

// SpendNonce implements [store.Sessions]. The primary key makes the second use of a nonce an
// [store.ErrConflict], in whichever process.
func (s *Store) SpendNonce(ctx context.Context, digest [32]byte, expires time.Time) (err error) {
	ctx, end := s.calls.Begin(ctx, "spend_nonce")
	defer end(&err)
	_, err = s.exec(ctx, "spend a nonce", "INSERT INTO nonce (digest, expires_at) VALUES (?, ?)", digest[:], expires.UnixMicro())
	return err
}

// pruneSessions are the statements that remove expired sessions and nonces.
var pruneSessions = []string{pruneFrom("session"), pruneFrom("nonce")}

// pruneFrom returns the statement for a table. Its arguments are the time and the limit. The index
// by expiry of each table gives the oldest rows without a sort. DELETE with a LIMIT of its own is
// not in every build of SQLite (https://sqlite.org/lang_delete.html section 3).
func pruneFrom(table string) string {
	return "DELETE FROM " + table + " WHERE digest IN (" +
		"SELECT digest FROM " + table + " WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)"
}

// PruneSessions implements [store.Sessions]. Both tables are pruned in one transaction.
func (s *Store) PruneSessions(ctx context.Context, now time.Time, limit int) (int, error) {
	return result(ctx, s.write, "prune sessions", func(tx *sql.Tx) (pruned int, err error) {
		for _, statement := range pruneSessions {
			n, err := changed(tx.ExecContext(ctx, statement, now.UnixMicro(), limit))
			if err != nil {
				return 0, err
			}
			pruned += int(n)
		}
		return pruned, nil
	})
}

// publishSigningKey changes no row if the id belongs to another public key. The expiry may also
// move to an earlier time.
const publishSigningKey = `
INSERT INTO signing_key (id, public, expires_at) VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at WHERE public = excluded.public`

// PublishSigningKey implements [store.Store]. One transaction does both: the new key and the
// removal of keys that have expired.
func (s *Store) PublishSigningKey(ctx context.Context, key store.SigningKey, life time.Duration) error {
	return s.write(ctx, "publish a signing key", func(tx *sql.Tx) error {
		now := s.now()
		n, err := changed(tx.ExecContext(ctx, publishSigningKey, key.ID, key.Public[:], now.Add(life).UnixMicro()))
		if err == nil && n == 0 {
			err = store.ErrConflict
		}
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM signing_key WHERE expires_at <= ?", now.UnixMicro())
		return err
	})
}

// SigningKeys implements [store.Store]. The clock is that of the store, as when the expiry was
// set.
func (s *Store) SigningKeys(ctx context.Context) (_ []store.SigningKey, err error) {
	ctx, end := s.calls.Begin(ctx, "signing_keys")
	defer end(&err)
	return result(ctx, s.readFollowed, "read the signing keys", func(tx *sql.Tx) ([]store.SigningKey, error) {
		return collect(ctx, tx, sqlstore.ScanSigningKey,
			"SELECT id, public, expires_at FROM signing_key WHERE expires_at > ? ORDER BY id", s.now().UnixMicro())
	})
}
