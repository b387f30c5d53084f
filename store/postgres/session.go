package postgres

import (
	"context"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// keyProof is what a session keeps of the hash of its key k.
const keyProof = "sha256(convert_to(k.key_hash, 'UTF8'))"

// insertSession locks the key until the session is committed, so that who deletes
// the key or gives it another hash comes before, and there is nothing to insert,
// or after, and ends the session.
const insertSession = "INSERT INTO sidecar.session (digest, key_id, key_proof, expires_at) " +
	"SELECT $1, k.id, " + keyProof + ", $3 FROM system_keys k WHERE k.id = $2 FOR SHARE"

// CreateSession implements [store.Sessions].
func (s *Store) CreateSession(ctx context.Context, session *store.Session) (err error) {
	ctx, end := s.call(ctx, "create_session", "create a session")
	defer end(&err)
	tag, err := s.exec(ctx, insertSession, session.Digest[:], uuid(session.Key), session.ExpiresAt)
	if err == nil && tag.RowsAffected() == 0 {
		err = store.ErrActorGone
	}
	return conflict(err)
}

// fromSession gives one row in any case, and the row and what the server is of one
// moment. The keys come first: TRUNCATE locks the tables in this order. The
// expiry is in a form that no index serves: the digest's is the better one.
const fromSession = " FROM (VALUES (true)) AS one LEFT JOIN (" +
	"SELECT k.*, true AS found FROM system_keys k JOIN sidecar.session s ON s.key_id = k.id AND s.key_proof = " + keyProof +
	" WHERE s.digest = $1 AND (s.expires_at > $2) IS TRUE) AS session ON true"

func selectSession(origin string) string {
	return "SELECT " + columns + ", found IS NOT NULL, pg_is_in_recovery(), " + followed(origin, 3) + fromSession
}

// Session implements [store.Sessions]. That a session was ended is not logged, so
// that the place alone would not do.
func (s *Store) Session(ctx context.Context, digest [32]byte, now time.Time) (_ *store.Key, err error) {
	ctx, end := s.call(ctx, "session", "read a session")
	defer end(&err)
	return sqlstore.Result(ctx, s.there, func(origin string) (*store.Key, error) {
		var found, standby, there bool
		row := s.pool.QueryRow(ctx, selectSession(origin), append([]any{digest[:], now}, s.seenArguments()...)...)
		key, err := scanKey(row, &found, &standby, &there)
		return key, judge(err, standby, there, found)
	})
}

const deleteSession = "DELETE FROM sidecar.session WHERE digest = $1 AND " + durable

// EndSession implements [store.Sessions].
func (s *Store) EndSession(ctx context.Context, digest [32]byte) (err error) {
	ctx, end := s.call(ctx, "end_session", "end a session")
	defer end(&err)
	_, err = s.execDurably(ctx, deleteSession, digest[:])
	return err
}

const insertNonce = "INSERT INTO sidecar.nonce (digest, expires_at) SELECT $1, $2 WHERE " + durable

// SpendNonce implements [store.Sessions].
func (s *Store) SpendNonce(ctx context.Context, digest [32]byte, expires time.Time) (err error) {
	ctx, end := s.call(ctx, "spend_nonce", "spend a nonce")
	defer end(&err)
	_, err = s.execDurably(ctx, insertNonce, digest[:], expires)
	return conflict(err)
}

// pruneSessions are the statements that remove what is over.
var pruneSessions = []string{pruneFrom("sidecar.session"), pruneFrom("sidecar.nonce")}

// pruneFrom waits for nobody: who deletes a key, which ends its sessions, would
// wait in a circle with it. A row that is locked stays where it is.
func pruneFrom(table string) string {
	return "DELETE FROM " + table + " WHERE ctid = ANY (ARRAY(" +
		"SELECT ctid FROM " + table + " WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))"
}

// PruneSessions implements [store.Sessions].
func (s *Store) PruneSessions(ctx context.Context, now time.Time, limit int) (pruned int, err error) {
	for _, statement := range pruneSessions {
		tag, err := s.exec(ctx, statement, now, limit)
		if err != nil {
			return pruned, explain("prune sessions", err)
		}
		pruned += int(tag.RowsAffected())
	}
	return pruned, nil
}

const publishSigningKey = `
INSERT INTO sidecar.signing_key AS k (id, public, expires_at)
SELECT $1, $2, clock_timestamp() + $3 * interval '1 microsecond' WHERE ` + durable + `
ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at WHERE k.public = excluded.public`

// PublishSigningKey implements [store.Store]. What has expired is removed in a
// transaction of its own: two statements of one could wait for each other in a
// circle.
func (s *Store) PublishSigningKey(ctx context.Context, key store.SigningKey, life time.Duration) error {
	tag, err := s.execDurably(ctx, publishSigningKey, key.ID, key.Public[:], life.Microseconds())
	if err == nil && tag.RowsAffected() == 0 {
		err = store.ErrConflict
	}
	if err == nil {
		_, err = s.execDurably(ctx, "DELETE FROM sidecar.signing_key WHERE expires_at <= clock_timestamp()")
	}
	return explain("publish a signing key", err)
}

// SigningKeys implements [store.Store].
func (s *Store) SigningKeys(ctx context.Context) (_ []store.SigningKey, err error) {
	ctx, end := s.call(ctx, "signing_keys", "read the signing keys")
	defer end(&err)
	return sqlstore.Result(ctx, s.there, func(origin string) ([]store.SigningKey, error) {
		// One row at least, so that it has what the server is at the same moment.
		keys, err := collect(ctx, s.pool, func(row sqlstore.Row) (store.SigningKey, error) {
			return sqlstore.ScanSigningKey(checkedRow{row})
		}, "SELECT "+self(origin, 1)+`, k.id, k.public, k.expires_at
FROM (VALUES (true)) AS one LEFT JOIN sidecar.signing_key k ON k.expires_at > clock_timestamp()
ORDER BY k.id COLLATE "C"`, s.seenArguments()...)
		if len(keys) > 0 && keys[0].ID == "" { // the row without a key
			return nil, err
		}
		return keys, err
	})
}
