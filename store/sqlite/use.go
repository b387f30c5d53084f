package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// maxAhead is how far a use may lie ahead of the store's clock.
const maxAhead = time.Second

// recordUse takes a JSON object from id to microseconds.
const recordUse = `
UPDATE system_keys SET last_used_at = uses.value
FROM json_each(?) AS uses
WHERE system_keys.id = uses.key AND system_keys.last_used_at < uses.value`

// RecordUse implements [store.Store].
func (s *Store) RecordUse(ctx context.Context, uses []store.Use) error {
	latest := make(map[store.ID]int64, len(uses))
	limit := s.now().Add(maxAhead).UnixMicro()
	for _, use := range uses {
		if at := min(use.At.UnixMicro(), limit); at > latest[use.ID] { // and so after 1970
			latest[use.ID] = at
		}
	}
	if len(latest) == 0 {
		return s.ping(ctx)
	}
	batch, err := json.Marshal(latest)
	if err != nil {
		return fmt.Errorf("record use: %w", err)
	}
	return s.write(ctx, "record use", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, recordUse, string(batch))
		return err
	})
}

// ping answers for a call that has nothing to do.
func (s *Store) ping(ctx context.Context) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.running.Done()
	return context.Cause(ctx)
}
