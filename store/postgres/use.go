package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// recordUse locks the rows in the order of their ids, so that two batches never
// wait for each other in a circle. The server reads each row again once it has
// the lock, which is why the condition and greatest see what an earlier batch
// wrote.
const recordUse = `
WITH uses AS MATERIALIZED (
    SELECT id, least(max(at), clock_timestamp() + interval '1 second') AS at
    FROM unnest($1::uuid[], $2::timestamptz[]) AS u (id, at)
    GROUP BY id
), locked AS MATERIALIZED (
    SELECT k.id, uses.at
    FROM uses JOIN system_keys k ON k.id = uses.id
    WHERE coalesce(k.last_used_at, '-infinity') < uses.at
    ORDER BY k.id
    FOR NO KEY UPDATE OF k
)
UPDATE system_keys k
SET last_used_at = greatest(k.last_used_at, locked.at)
FROM locked
WHERE k.id = locked.id`

// RecordUse implements [store.Store].
func (s *Store) RecordUse(ctx context.Context, uses []store.Use) error {
	ids := make([]pgtype.UUID, 0, len(uses))
	times := make([]time.Time, 0, len(uses))
	for _, use := range uses {
		if use.At.UnixMicro() <= 0 {
			continue // not a time at which a key was used
		}
		ids = append(ids, uuid(use.ID))
		times = append(times, use.At)
	}
	return explain("record use", again(func() error {
		return s.transact(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, recordUse, ids, times)
			return err
		})
	}))
}
