package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// allow reads the acting key in the transaction of its write. The transaction
// holds the write lock from its start, so nobody changes the row before it ends.
func allow(ctx context.Context, tx *sql.Tx, acting *store.Acting) error {
	if acting == nil {
		return nil
	}
	key, err := scanKey(tx.QueryRowContext(ctx, "SELECT "+columns+" FROM system_keys WHERE id = ?", acting.ID.String()))
	if errors.Is(err, store.ErrNotFound) {
		return store.ErrActorGone
	}
	if err != nil {
		return err
	}
	return acting.Allow(key)
}
