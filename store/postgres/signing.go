package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/store"
)

const publishSigningKey = `
INSERT INTO sidecar.signing_key AS k (id, public, expires_at)
SELECT $1, $2, clock_timestamp() + $3 * interval '1 microsecond' WHERE ` + durable + `
ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at WHERE k.public = excluded.public`

// PublishSigningKey implements [store.Store]. What has expired is removed in a
// transaction of its own: two statements of one could wait for each other in a
// circle.
func (s *Store) PublishSigningKey(ctx context.Context, key store.SigningKey, life time.Duration) error {
	err := again(func() error {
		return s.durably(ctx, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, publishSigningKey, key.ID, key.Public[:], life.Microseconds())
			if err == nil && tag.RowsAffected() == 0 {
				err = store.ErrConflict
			}
			return err
		})
	})
	if err == nil {
		err = s.execDurably(ctx, "DELETE FROM sidecar.signing_key WHERE expires_at <= clock_timestamp()")
	}
	return explain("publish a signing key", err)
}

// SigningKeys implements [store.Store].
func (s *Store) SigningKeys(ctx context.Context) ([]store.SigningKey, error) {
	var keys []store.SigningKey
	err := s.there(ctx, func(origin string) error {
		keys = nil
		// One row at least, so that it has what the server is at the same moment.
		rows, err := s.pool.Query(ctx, "SELECT "+self(origin, 1)+`, k.id, k.public, k.expires_at
FROM (VALUES (true)) AS one LEFT JOIN sidecar.signing_key k ON k.expires_at > clock_timestamp()
ORDER BY k.id COLLATE "C"`, s.seenArguments()...)
		if err != nil {
			return err
		}
		_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
			var id *string
			var public []byte
			var expires *time.Time
			_, err := checked(row, &id, &public, &expires)
			switch {
			case err != nil:
				return struct{}{}, err
			case id == nil: // there are none
				return struct{}{}, nil
			case len(public) != len(store.SigningKey{}.Public):
				return struct{}{}, errors.New("a key has the wrong length")
			}
			keys = append(keys, store.SigningKey{ID: *id, Public: [32]byte(public), ExpiresAt: expires.UTC()})
			return struct{}{}, nil
		})
		return err
	})
	if err != nil {
		return nil, explain("read the signing keys", err)
	}
	return keys, nil
}
