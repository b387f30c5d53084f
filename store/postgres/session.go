package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// keyProof is the digest of the hash of the key k. Sessions and adopted keys keep it.
const keyProof = "sha256(convert_to(k.key_hash, 'UTF8'))"

// insertSession locks the key until the session is committed. A deletion of the key, or a
// change of its hash, comes either before, so that nothing is inserted, or after, and ends
// the session.
const insertSession = "INSERT INTO {own}.session (digest, key_id, key_proof, expires_at) " +
	"SELECT $1, k.id, " + keyProof + ", $3 FROM {keys} k WHERE k.id = $2 FOR SHARE"

// CreateSession implements [store.Sessions]. A digest that is taken is [store.ErrConflict].
func (s *Store) CreateSession(ctx context.Context, session *store.Session) (err error) {
	ctx, end := s.call(ctx, "create_session", "create a session")
	defer end(&err)
	tag, err := s.exec(ctx, insertSession, session.Digest[:], uuid(session.Key), session.ExpiresAt)
	if err == nil && tag.RowsAffected() == 0 {
		err = store.ErrActorGone
	}
	return conflict(err)
}

// fromSession always gives one row, with the key or NULL, so that the statement can ask for
// the server's role and history at the same moment. The keys come first, since TRUNCATE
// locks the tables in this order. The condition on the expiry has a form that no index
// serves, since the index of the digest is better. A key that came from a table that is not
// followed, but should be, may have been revoked there.
const fromSession = " FROM (VALUES (true)) AS one LEFT JOIN (" +
	"SELECT k.*, true AS found FROM {keys} k JOIN {own}.session s ON s.key_id = k.id AND s.key_proof = " + keyProof +
	" WHERE s.digest = $1 AND (s.expires_at > $2) IS TRUE" +
	" AND (k.minted OR k.created_by <> 'import' OR " + following + " IS NOT FALSE)) AS session ON true"

var selectSession = "SELECT " + columns + ", found IS NOT NULL, pg_is_in_recovery(), " + followed(3) + fromSession

// Session implements [store.Sessions]. The end of a session is not in the change log, so the
// condition atPlace would not be enough. A session that has expired, and one whose key is gone,
// is [store.ErrNotFound].
func (s *Store) Session(ctx context.Context, digest [32]byte, now time.Time) (_ *store.Key, err error) {
	ctx, end := s.call(ctx, "session", "read a session")
	defer end(&err)
	return sqlstore.Result(ctx, s.readFollowed, func(db *database) (*store.Key, error) {
		var found, standby, followed bool
		row := db.QueryRow(ctx, selectSession, append([]any{digest[:], now}, s.seenArguments()...)...)
		key, err := scanKey(row, &found, &standby, &followed)
		return key, checkAnswer(err, standby, followed, found)
	})
}

// deleteSession waits for the disk: a session that was ended must not come back after a crash.
const deleteSession = "DELETE FROM {own}.session WHERE digest = $1 AND " + durable

// EndSession implements [store.Sessions]. It fails if a standby that is waited for may not have
// it.
func (s *Store) EndSession(ctx context.Context, digest [32]byte) (err error) {
	ctx, end := s.call(ctx, "end_session", "end a session")
	defer end(&err)
	_, err = s.execDurably(ctx, deleteSession, digest[:])
	return err
}

// insertNonce waits for the disk, since a nonce that is forgotten could be used twice.
const insertNonce = "INSERT INTO {own}.nonce (digest, expires_at) SELECT $1, $2 WHERE " + durable

// SpendNonce implements [store.Sessions]. The primary key lets one instance win. The second one
// waits for the commit of the first, and gets [store.ErrConflict].
func (s *Store) SpendNonce(ctx context.Context, digest [32]byte, expires time.Time) (err error) {
	ctx, end := s.call(ctx, "spend_nonce", "spend a nonce")
	defer end(&err)
	_, err = s.execDurably(ctx, insertNonce, digest[:], expires)
	return conflict(err)
}

// pruneSessions are the statements that remove expired sessions and nonces.
var pruneSessions = []string{pruneFrom("{own}.session"), pruneFrom("{own}.nonce")}

// pruneFrom skips locked rows and waits for nobody. The deletion of a key also ends its
// sessions, and the two could wait for each other in a circle. The index by expiry gives the
// oldest rows. ctid is the place of a row
// (https://www.postgresql.org/docs/current/ddl-system-columns.html), so the rows are not looked
// up by their keys again.
func pruneFrom(table string) string {
	return "DELETE FROM " + table + " WHERE ctid = ANY (ARRAY(" +
		"SELECT ctid FROM " + table + " WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))"
}

const anyExpired = "SELECT EXISTS (SELECT FROM {own}.session WHERE expires_at <= $1) OR EXISTS (SELECT FROM {own}.nonce WHERE expires_at <= $1)"

// PruneSessions implements [store.Sessions]. Without anything to remove it is one statement.
// Each table is a transaction of its own, so the first one stays pruned if the second one fails.
func (s *Store) PruneSessions(ctx context.Context, now time.Time, limit int) (pruned int, err error) {
	const what = "prune sessions"
	db, err := s.database(ctx)
	if err != nil {
		return 0, explain(what, err)
	}
	var expired bool
	if err := db.QueryRow(ctx, anyExpired, now).Scan(&expired); err != nil || !expired {
		return 0, explain(what, err)
	}
	for _, statement := range pruneSessions {
		tag, err := s.exec(ctx, statement, now, limit)
		if err != nil {
			return pruned, explain(what, err)
		}
		pruned += int(tag.RowsAffected())
	}
	return pruned, nil
}

// publishSigningKey returns no row if the id belongs to another public key. It tells whether there
// are expired keys. The snapshot is from before the insert, so the key itself counts as it was.
const publishSigningKey = `
INSERT INTO {own}.signing_key AS k (id, public, expires_at)
SELECT $1, $2, clock_timestamp() + $3 * interval '1 microsecond' WHERE ` + durable + `
ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at WHERE k.public = excluded.public
RETURNING EXISTS (SELECT FROM {own}.signing_key WHERE expires_at <= clock_timestamp())`

// PublishSigningKey implements [store.Store]. If there are expired keys, it removes them in a
// transaction of its own: with both statements in one, two instances could wait for each
// other in a circle.
func (s *Store) PublishSigningKey(ctx context.Context, key store.SigningKey, life time.Duration) error {
	var expired bool
	err := s.durably(ctx, func(tx *database) error {
		return tx.QueryRow(ctx, publishSigningKey, key.ID, key.Public[:], life.Microseconds()).Scan(&expired)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = store.ErrConflict
	}
	if err == nil && expired {
		_, err = s.execDurably(ctx, "DELETE FROM {own}.signing_key WHERE expires_at <= clock_timestamp()")
	}
	return explain("publish a signing key", err)
}

// SigningKeys implements [store.Store].
//
// The clock is the server's, as when the expiry was set.
func (s *Store) SigningKeys(ctx context.Context) (_ []store.SigningKey, err error) {
	ctx, end := s.call(ctx, "signing_keys", "read the signing keys")
	defer end(&err)
	return sqlstore.Result(ctx, s.readFollowed, func(db *database) ([]store.SigningKey, error) {
		// There is always a row, so that serverColumns are of the same moment.
		keys, err := collect(ctx, db, func(row sqlstore.Row) (store.SigningKey, error) {
			return sqlstore.ScanSigningKey(checkedRow{row: row})
		}, "SELECT "+serverColumns(1)+`, k.id, k.public, k.expires_at
FROM (VALUES (true)) AS one LEFT JOIN {own}.signing_key k ON k.expires_at > clock_timestamp()
ORDER BY k.id COLLATE "C"`, s.seenArguments()...)
		if len(keys) > 0 && keys[0].ID == "" { // the row without a key
			return nil, err
		}
		return keys, err
	})
}
