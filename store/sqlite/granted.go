package sqlite

import (
	"context"
	"database/sql"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// selectGranted passes over elements that are no text, which only another program
// could have written.
const selectGranted = `
SELECT DISTINCT p.value
FROM (
    SELECT permissions FROM system_keys INDEXED BY system_keys_by_created_at ORDER BY created_at DESC, id DESC LIMIT ?
) AS newest CROSS JOIN json_each(newest.permissions) AS p
WHERE p.type = 'text' ORDER BY p.value LIMIT ?`

// Granted implements [store.Store].
func (s *Store) Granted(ctx context.Context, keys int) ([]string, error) {
	granted := []string{}
	err := s.read(ctx, "list the permissions in use", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, selectGranted, max(0, keys), store.MaxGranted)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }() // its error is Err's
		for rows.Next() {
			var permission string
			if err := rows.Scan(&permission); err != nil {
				return err
			}
			granted = append(granted, permission)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, err
	}
	return granted, nil
}
