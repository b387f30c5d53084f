package sqlite

import (
	"context"
	"database/sql"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// retired is a condition: the row was replaced, and whoever has not heard of its end has no
// lease any more. A rotation sets the expiry. An instance whose lease began before may have the
// row with a later one. Without members the longest lease is 0. The index system_keys_replaced
// has only rows that were replaced, by their expiry.
const retired = `replaced_by IS NOT NULL AND expires_at < CAST(unixepoch('subsec') * 1000000 AS INTEGER)
    - 1000 * (SELECT coalesce(max(ttl_ms), 0) FROM member)`

// matching returns the condition that a row matches the filter with the order of the rows, and
// its arguments. The order makes the limit mean the lowest ids.
func matching(filter *store.KeyFilter) (condition string, args []any) {
	conditions, args := []string{"id NOT IN (SELECT value FROM json_each(?))"}, []any{jsonIDs(filter.Except)}
	add := func(set bool, condition string, arg any) {
		if set {
			conditions, args = append(conditions, condition), append(args, arg)
		}
	}
	add(filter.CreatedBy != "", "created_by = ?", filter.CreatedBy)
	add(!filter.CreatedSince.IsZero(), "created_at >= ?", filter.Since().UnixMicro())
	// No LIKE and no GLOB, so no character of the prefix has a meaning.
	add(filter.LabelPrefix != "", "instr(label, ?) = 1", filter.LabelPrefix)
	add(filter.Permission != "", "EXISTS (SELECT 1 FROM json_each(permissions) WHERE value = ?)", filter.Permission)
	add(!filter.ExpiredBefore.IsZero(), "ends_at < ?", filter.ExpiredBefore.UnixMicro())
	if filter.Retired {
		conditions = append(conditions, retired)
	}
	condition = strings.Join(conditions, " AND ") + " ORDER BY id"
	if filter.Limit > 0 {
		condition, args = condition+" LIMIT ?", append(args, filter.Limit)
	}
	return condition, args
}

// MatchKeys implements [store.Store].
func (s *Store) MatchKeys(ctx context.Context, filter *store.KeyFilter) (_ []*store.Key, err error) {
	ctx, end := s.calls.Begin(ctx, "match_keys")
	defer end(&err)
	if err := filter.Check(); err != nil {
		return nil, err
	}
	return result(ctx, s.read, "find keys", func(tx *sql.Tx) ([]*store.Key, error) { return matchKeys(ctx, tx, filter) })
}

// matchKeys returns the keys that match, and those that come from them. Of a filter for keys
// that have ended it returns no heirs: these live on. The first statement takes the limit into
// account, so heirs come on top of it.
func matchKeys(ctx context.Context, tx *sql.Tx, filter *store.KeyFilter) ([]*store.Key, error) {
	condition, args := matching(filter)
	scan := func(row sqlstore.Row) (*store.Key, error) { return scanKey(row) }
	keys, err := collect(ctx, tx, scan, "SELECT "+columns+" FROM system_keys WHERE "+condition, args...)
	if err != nil || filter.Ended() {
		return keys, err
	}
	return collect(ctx, tx, scan, "SELECT "+columns+" FROM system_keys WHERE id IN (SELECT value FROM json_each(?1)) OR "+
		descends+"(SELECT value FROM json_each(?1))) ORDER BY id", jsonIDs(idsOf(keys)))
}

// DeleteKeys implements [store.Store].
func (s *Store) DeleteKeys(ctx context.Context, filter *store.KeyFilter, write *store.Write) (_ []*store.Key, err error) {
	ctx, end := s.calls.Begin(ctx, "delete_keys")
	defer end(&err)
	if err := filter.Check(); err != nil {
		return nil, err
	}
	return result(ctx, s.write, "delete keys", func(tx *sql.Tx) ([]*store.Key, error) {
		if err := allow(ctx, tx, write.By()); err != nil {
			return nil, err
		}
		keys, err := deleteKeys(ctx, tx, filter, write)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if filter.Retired && key.Replaces != (store.ID{}) {
				if _, err := tx.ExecContext(ctx, handOver, key.ID.String(), key.ReplacedBy.String()); err != nil {
					return nil, err
				}
			}
		}
		return keys, record(ctx, tx, write, keys...)
	})
}

// deleteKeys is [deleteKey] for all keys that match. Nobody else writes in this transaction,
// so the keys that were read are those that are deleted.
//
// A key to be kept is never one that matches by itself. If it is among the keys, it would end with
// one of them, and the error is that of [store.ErrKept].
func deleteKeys(ctx context.Context, tx *sql.Tx, filter *store.KeyFilter, write *store.Write) ([]*store.Key, error) {
	keys, err := matchKeys(ctx, tx, filter)
	if err != nil {
		return nil, err
	}
	for _, id := range filter.Except {
		if sqlstore.KeyOf(keys, id) != nil {
			return nil, store.ErrKept(id)
		}
	}
	return keys, deleteRows(ctx, tx, keys, write)
}

// descends is a condition: the row comes from one of the keys in the list behind it. Few keys
// have ancestors. The index system_keys_with_ancestors has those that do.
const descends = "ancestors <> '[]' AND EXISTS (SELECT 1 FROM json_each(ancestors) AS ancestor WHERE ancestor.value IN "

// deleteRows deletes keys, and gets that into the change log.
//
// The triggers do all else: they count, log, and end sessions, adoptions and activity. If the
// triggers that log are not all there, the entries are made here, and end sessions and adoptions
// by the triggers of the log.
func deleteRows(ctx context.Context, tx *sql.Tx, keys []*store.Key, write *store.Write) error {
	_, logged, err := head(ctx, tx)
	if err != nil {
		return err
	}
	// The ids are one argument, since any number of keys may go at once.
	statements := []string{"DELETE FROM system_keys WHERE id IN (SELECT value FROM json_each(?))"}
	if write != nil && write.Record != nil { // tells the trigger not to write audit records
		statements = []string{
			"INSERT INTO auditing (id) SELECT value FROM json_each(?)", statements[0],
			"DELETE FROM auditing WHERE id IN (SELECT value FROM json_each(?))",
		}
	}
	if !logged {
		statements = append(statements, "INSERT INTO change_log (key_id, op) SELECT value, 'd' FROM json_each(?)")
	}
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement, jsonIDs(idsOf(keys))); err != nil {
			return err
		}
	}
	return nil
}

func idsOf(keys []*store.Key) []store.ID {
	ids := make([]store.ID, 0, len(keys))
	for _, key := range keys {
		ids = append(ids, key.ID)
	}
	return ids
}
