package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/store"
)

const selectGranted = `
SELECT DISTINCT p COLLATE "C" AS permission
FROM (
    SELECT permissions FROM system_keys ORDER BY created_at DESC, id DESC LIMIT $1
) AS newest, unnest(newest.permissions) AS p
ORDER BY permission LIMIT $2`

// Granted implements [store.Store].
func (s *Store) Granted(ctx context.Context, keys int) ([]string, error) {
	const what = "list the permissions in use"
	rows, err := s.pool.Query(ctx, selectGranted, max(0, keys), store.MaxGranted)
	if err != nil {
		return nil, explain(what, err)
	}
	granted, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, explain(what, err)
	}
	return granted, nil
}
