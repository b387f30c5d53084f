package postgres

import (
	"context"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// These are conditions on a row. It was replaced, and whoever has not heard of its end has no
// lease any more:
const retired = `replaced_by IS NOT NULL AND expires_at < clock_timestamp() - (
    SELECT coalesce(max(ttl_ms), 0) FROM {own}.member
) * interval '1 millisecond'`

// It comes from one of the keys in the array behind the condition:
const descends = "ancestors <> '{}' AND ancestors && "

// matching is the condition that a row matches the filter, and the order of the rows.
func (s *statement) matching(filter *store.KeyFilter) string {
	conditions := []string{"id <> ALL (" + s.bind(uuids(append([]store.ID{}, filter.Except...))) + "::uuid[])"}
	if filter.CreatedBy != "" {
		conditions = append(conditions, "created_by = "+s.bind(filter.CreatedBy))
	}
	if !filter.CreatedSince.IsZero() {
		conditions = append(conditions, "created_at >= "+s.bind(filter.Since()))
	}
	if filter.LabelPrefix != "" { // no LIKE, so no character has a meaning
		conditions = append(conditions, `starts_with(label COLLATE "C", `+s.bind(filter.LabelPrefix)+")")
	}
	if filter.Permission != "" {
		conditions = append(conditions, s.bind(filter.Permission)+" = ANY (permissions)")
	}
	if !filter.ExpiredBefore.IsZero() {
		conditions = append(conditions, expiry+" < "+s.bind(filter.ExpiredBefore))
	}
	if filter.Retired {
		conditions = append(conditions, retired)
	}
	matching := strings.Join(conditions, " AND ") + " ORDER BY id"
	if filter.Limit > 0 {
		matching += " LIMIT " + s.bind(filter.Limit)
	}
	return matching
}

// MatchKeys implements [store.Store].
func (s *Store) MatchKeys(ctx context.Context, filter *store.KeyFilter) (_ []*store.Key, err error) {
	ctx, end := s.call(ctx, "match_keys", "find keys")
	defer end(&err)
	if err := filter.Check(); err != nil {
		return nil, err
	}
	db, err := s.database(ctx)
	if err != nil {
		return nil, err
	}
	var found statement
	found.text = "SELECT " + columns + " FROM {keys} WHERE " + found.matching(filter)
	return collect(ctx, db, func(row sqlstore.Row) (*store.Key, error) { return scanKey(row) }, found.text, found.args...)
}

// DeleteKeys implements [store.Store].
func (s *Store) DeleteKeys(ctx context.Context, filter *store.KeyFilter, write *store.Write) (_ []*store.Key, err error) {
	ctx, end := s.call(ctx, "delete_keys", "delete keys")
	defer end(&err)
	if err := filter.Check(); err != nil {
		return nil, err
	}
	return sqlstore.Result(ctx, s.durably, func(tx *database) ([]*store.Key, error) {
		if err := allow(ctx, tx, write.By(), forDeletion); err != nil {
			return nil, err
		}
		if err := spare(ctx, tx, filter); err != nil {
			return nil, err
		}
		keys, err := deleteKeys(ctx, tx, filter)
		if err != nil {
			return nil, err
		}
		return keys, recordAll(ctx, tx, keys, write)
	})
}

// spare makes the keys that are kept come from nobody, if they come from a key that matches.
func spare(ctx context.Context, tx *database, filter *store.KeyFilter) error {
	if len(filter.Except) == 0 || filter.Ended() {
		return nil
	}
	var update statement
	update.text = "UPDATE {keys} SET ancestors = '{}' WHERE id = ANY (" + update.bind(uuids(filter.Except)) + ") AND " +
		descends + "ARRAY(SELECT id FROM {keys} WHERE " + update.matching(filter) + ")"
	_, err := tx.Exec(ctx, update.text, update.args...)
	return err
}

// deleteKeys locks the rows in the order of their ids, as recordUse does, so that the two
// never wait for each other in a circle. A row that was changed meanwhile is looked at again
// once it is locked.
func deleteKeys(ctx context.Context, tx *database, filter *store.KeyFilter) ([]*store.Key, error) {
	var deletion statement
	deletion.text = "WITH locked AS MATERIALIZED (SELECT id AS locked_id FROM {keys} WHERE " + deletion.matching(filter) + " FOR UPDATE)"
	if !filter.Ended() {
		deletion.text += ", doomed AS MATERIALIZED (SELECT locked_id FROM locked UNION SELECT id FROM {keys} WHERE " + descends +
			"(SELECT array_agg(locked_id) FROM locked) AND id <> ALL (" + deletion.bind(uuids(append([]store.ID{}, filter.Except...))) + "::uuid[]))"
	} else {
		deletion.text += ", doomed AS (SELECT locked_id FROM locked)"
	}
	deletion.text += ", deleted AS (DELETE FROM {keys} USING doomed WHERE id = locked_id AND " + durable +
		" RETURNING " + columns + ", " + watched + " AS logged) SELECT " + columns + ", logged FROM deleted ORDER BY id"
	logged := true // by the triggers; see deleteKey
	keys, err := collect(ctx, tx, func(row sqlstore.Row) (*store.Key, error) { return scanKey(row, &logged) },
		deletion.text, deletion.args...)
	if err != nil || logged {
		return keys, err
	}
	return keys, logDeletions(ctx, tx, keys)
}
