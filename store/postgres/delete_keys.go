package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// retired is a condition: the row was replaced, and whoever has not heard of its end has no
// lease any more. A rotation sets the expiry. An instance whose lease began before may have the
// row with a later one. Without members the longest lease is 0. The partial index
// system_keys_replaced has only rows that were replaced, by their expiry.
const retired = `replaced_by IS NOT NULL AND expires_at < statement_timestamp() - (
    SELECT coalesce(max(ttl_ms), 0) FROM {own}.member
) * interval '1 millisecond'`

// matching returns the condition that a row matches the filter, and the order of the rows. The
// order makes the limit mean the lowest ids.
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
//
// It is one statement, so keys and heirs are of one state. MATERIALIZED runs the search once: its
// result is used twice.
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
	found.text = "WITH matching AS MATERIALIZED (SELECT id FROM {keys} WHERE " + found.matching(filter) + ") SELECT " + columns +
		" FROM {keys} WHERE id IN (SELECT id FROM matching" + heirs(filter, "id", "matching") + ") ORDER BY id"
	return collect(ctx, db, func(row sqlstore.Row) (*store.Key, error) { return scanKey(row) }, found.text, found.args...)
}

// heirs adds the keys that come from those in a column. What comes from keys that have ended
// lives on.
func heirs(filter *store.KeyFilter, column, table string) string {
	if filter.Ended() {
		return ""
	}
	return " UNION SELECT unnest({own}.heirs((SELECT array_agg(" + column + ") FROM " + table + ")))"
}

// DeleteKeys implements [store.Store].
//
// A successor takes the place of a retired key in the row that this key had replaced.
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
		if err := checkKept(ctx, tx, filter); err != nil {
			return nil, err
		}
		keys, err := deleteKeys(ctx, tx, filter)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if filter.Retired && key.Replaces != (store.ID{}) {
				if _, err := tx.Exec(ctx, handOver, uuid(key.ID), uuid(key.ReplacedBy)); err != nil {
					return nil, err
				}
			}
		}
		return keys, record(ctx, tx, write, keys...)
	})
}

// checkKept returns an error if a key that is kept comes from one that matches. Without keys to
// keep it asks nothing. What comes from keys that have ended lives on, so it is not looked for
// either.
func checkKept(ctx context.Context, tx *database, filter *store.KeyFilter) error {
	if len(filter.Except) == 0 || filter.Ended() {
		return nil
	}
	var query statement
	query.text = "SELECT id FROM {keys} WHERE id = ANY (" + query.bind(uuids(filter.Except)) + ") AND ancestors <> '{}' " +
		"AND id = ANY ({own}.heirs(ARRAY(SELECT id FROM {keys} WHERE " + query.matching(filter) + "))) LIMIT 1"
	var kept store.ID
	switch err := tx.QueryRow(ctx, query.text, query.args...).Scan(sqlstore.ID(&kept)); {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	return store.ErrKept(kept)
}

// deleteKeys locks the rows that match in the order of their ids, as lockUsed does, so that the two
// do not wait for each other in a circle. A row that was changed meanwhile is looked at again
// once it is locked.
//
// Heirs are deleted by the same statement, so that they are returned and recorded with the others.
// They are locked only then, so there can be a circle: the server breaks it, and the transaction is
// made again. The triggers enter all of them into the change log at the commit.
func deleteKeys(ctx context.Context, tx *database, filter *store.KeyFilter) ([]*store.Key, error) {
	var deletion statement
	deletion.text = "WITH " + noChangeOfTriggers + ", locked AS MATERIALIZED (SELECT id AS locked_id FROM {keys} WHERE " + deletion.matching(filter) + " FOR UPDATE)" +
		", doomed AS (SELECT locked_id FROM locked" + heirs(filter, "locked_id", "locked") + "), deleted AS (DELETE FROM {keys} USING doomed WHERE id = locked_id AND " + durable +
		" RETURNING " + columns + ", " + watched + " AS logged) SELECT " + columns + ", logged FROM deleted ORDER BY id"
	logged := true // by the triggers; see deleteKey
	keys, err := collect(ctx, tx, func(row sqlstore.Row) (*store.Key, error) { return scanKey(row, &logged) },
		deletion.text, deletion.args...)
	if err != nil || logged {
		return keys, err
	}
	return keys, logDeletions(ctx, tx, keys)
}
