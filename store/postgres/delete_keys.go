package postgres

import (
	"context"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

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
		keys, err := deleteKeys(ctx, tx, filter)
		if err != nil {
			return nil, err
		}
		return keys, recordAll(ctx, tx, keys, write)
	})
}

// deleteKeys locks the rows in the order of their ids, as recordUse does, so that the two
// never wait for each other in a circle. A row that was changed meanwhile is looked at again
// once it is locked.
func deleteKeys(ctx context.Context, tx *database, filter *store.KeyFilter) ([]*store.Key, error) {
	var deletion statement
	deletion.text = "WITH locked AS MATERIALIZED (SELECT id AS locked_id FROM {keys} WHERE " + deletion.matching(filter) +
		" FOR UPDATE), deleted AS (DELETE FROM {keys} USING locked WHERE id = locked_id AND " + durable +
		" RETURNING " + columns + ", " + watched + " AS logged) SELECT " + columns + ", logged FROM deleted ORDER BY id"
	logged := true // by the triggers; see deleteKey
	keys, err := collect(ctx, tx, func(row sqlstore.Row) (*store.Key, error) { return scanKey(row, &logged) },
		deletion.text, deletion.args...)
	if err != nil || logged {
		return keys, err
	}
	ids := make([]store.ID, 0, len(keys))
	for _, key := range keys {
		ids = append(ids, key.ID)
	}
	_, err = tx.Exec(ctx, "SELECT {own}.append(id, 'd') FROM unnest($1::uuid[]) AS deleted (id)", uuids(ids))
	return keys, err
}
