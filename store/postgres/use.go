package postgres

import (
	"context"
	"time"

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

// attempts is how often a batch is tried that lost to another transaction. It
// can still wait in a circle with a service that locks rows in its own order.
const attempts = 5

// RecordUse implements [store.Store].
func (s *Store) RecordUse(ctx context.Context, uses []store.Use) error {
	ids := make([]pgtype.UUID, 0, len(uses))
	times := make([]time.Time, 0, len(uses))
	for _, use := range uses {
		if use.At.IsZero() {
			continue
		}
		ids = append(ids, uuid(use.ID))
		times = append(times, use.At)
	}
	var err error
	for range attempts {
		if _, err = s.pool.Exec(ctx, recordUse, ids, times); !lostRace(err) {
			break
		}
	}
	return explain("record use", err)
}
