package postgres

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// columns are the columns of a [store.Key] without its hash.
const columns = sqlstore.KeyColumns

// durable is a condition that is always true. It makes the statement's transaction wait for
// the disk if the server is configured not to. Stricter settings, which also wait for
// standbys, stay as they are.
const durable = `(SELECT CASE current_setting('synchronous_commit')
    WHEN 'off' THEN set_config('synchronous_commit', 'on', true) ELSE '' END) IS NOT NULL`

// keyColumns are the columns whose values keyRow returns.
const keyColumns = columns + ", key_hash"

// insertKey is a SELECT and no VALUES, so that it can have a condition.
const insertKey = "INSERT INTO {keys} (" + keyColumns + ") SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16 WHERE " + durable

// CreateKey implements [store.Store].
//
// The statement and the record are one transaction. The trigger of the key table enters the label
// into the search, and counts the row. An id that is taken is [store.ErrConflict].
func (s *Store) CreateKey(ctx context.Context, key *store.Key, write *store.Write) (err error) {
	ctx, end := s.call(ctx, "create_key", "create a key")
	defer end(&err)
	err = s.durably(ctx, func(tx *database) error {
		if err := allow(ctx, tx, write.By(), forCreation); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, insertKey, keyRow(key)...); err != nil {
			return err
		}
		return record(ctx, tx, write, key)
	})
	return conflict(err)
}

// keyRow returns the values of the columns of a key, and its hash as the last one. The lists are
// never NULL: nil is the empty array.
func keyRow(key *store.Key) []any {
	return []any{
		uuid(key.ID), key.Label, append([]string{}, key.Permissions...), key.IsSystem, key.CreatedAt, key.CreatedBy,
		instant(key.ExpiresAt), instant(key.LastUsedAt), !key.Foreign, append([]netip.Prefix{}, key.Networks...),
		orNull(key.Replaces), orNull(key.ReplacedBy), instant(key.PlannedExpiry), key.Grace.Milliseconds(), append([]pgtype.UUID{}, uuids(key.Ancestors)...),
		string(key.Hash), // as a store.Hash, pgx would send what its String method returns
	}
}

// fromKey always gives one row. It has the key, or NULL, so that the statement can ask for
// the server's role and history at the same moment.
const fromKey = " FROM (VALUES (true)) AS one LEFT JOIN {keys} ON id = $1"

// The second statement compares the origin too.
var (
	selectKey         = "SELECT " + keyColumns + ", pg_is_in_recovery(), " + atPlace(2) + fromKey
	selectKeyOfOrigin = "SELECT " + keyColumns + ", pg_is_in_recovery(), " + followed(2) + fromKey
)

// Key implements [store.Store].
func (s *Store) Key(ctx context.Context, id store.ID) (_ *store.Key, err error) {
	ctx, end := s.call(ctx, "key", "read a key")
	defer end(&err)
	return s.key(ctx, id)
}

func (s *Store) key(ctx context.Context, id store.ID) (key *store.Key, err error) {
	err = s.readFollowed(ctx, func(db *database) (err error) {
		seen := s.seenArguments()
		key, err = readKey(db.QueryRow(ctx, selectKey, uuid(id), seen[0], seen[1]))
		if !errors.Is(err, store.ErrNotFound) || seen[2] == "" {
			return err
		}
		// An old primary may lack a key that was created since. So "not found" counts
		// only if the origin is the same too. A row that is found needs no such check,
		// since whatever ends a row is in the log.
		key, err = readKey(db.QueryRow(ctx, selectKeyOfOrigin, append([]any{uuid(id)}, seen...)...))
		return err
	})
	if err != nil {
		return nil, err
	}
	return key, nil
}

// readKey reads the row of selectKey or selectKeyOfOrigin, and checks the server that gave it.
func readKey(row pgx.Row) (*store.Key, error) {
	var hash *string
	var standby, followed bool
	key, err := scanKey(row, &hash, &standby, &followed)
	if err := checkAnswer(err, standby, followed, hash != nil); err != nil {
		return nil, err
	}
	key.Hash = store.Hash(*hash)
	return key, nil
}

// DeleteKey implements [store.Store].
//
// The deletion is in the log at the commit, also with [store.ErrNotFound]. If the wait for standbys
// was cancelled, there is an error.
func (s *Store) DeleteKey(ctx context.Context, id store.ID, write *store.Write) (_ *store.Key, err error) {
	ctx, end := s.call(ctx, "delete_key", "delete a key")
	defer end(&err)
	key, err := sqlstore.Result(ctx, s.durably, func(tx *database) (*store.Key, error) {
		if err := allow(ctx, tx, write.By(), forDeletion); err != nil {
			return nil, err
		}
		keys, err := deleteKey(ctx, tx, id)
		if err != nil {
			return nil, err
		}
		return sqlstore.KeyOf(keys, id), record(ctx, tx, write, keys...)
	})
	if err == nil && key == nil {
		err = store.ErrNotFound
	}
	return key, err
}

// noChangeOfTriggers belongs to a statement that deletes keys. It deletes nothing, and locks the
// table whose trigger logs the deletion, as the statement locks that of the keys. So nobody can
// change the triggers between the look at them and the end of the transaction.
const noChangeOfTriggers = "triggers AS (DELETE FROM {own}.deletion WHERE false)"

// deleteKey deletes the key and those that come from it, and returns them. It gets the
// deletion of the key into the change log even if there is no such key.
func deleteKey(ctx context.Context, tx *database, id store.ID) ([]*store.Key, error) {
	// The locks come first, so that the next statement sees what a rotation has minted that
	// had a lock before.
	const doomed = "id = ANY ({own}.heirs(ARRAY[$1::uuid]) || $1::uuid)"
	if _, err := tx.Exec(ctx, "SELECT FROM {keys} WHERE "+doomed+" ORDER BY id FOR UPDATE", uuid(id)); err != nil {
		return nil, err
	}
	// Each row says whether all triggers are there, so with one row it is known. Without a row
	// there is nothing that they should have logged.
	logged := true
	keys, err := collect(ctx, tx, func(row sqlstore.Row) (*store.Key, error) { return scanKey(row, &logged) },
		"WITH "+noChangeOfTriggers+" DELETE FROM {keys} WHERE "+doomed+" AND "+durable+" RETURNING "+columns+", "+watched, uuid(id))
	if err != nil {
		return nil, err
	}
	unlogged := keys
	if logged {
		unlogged = nil
	}
	if sqlstore.KeyOf(keys, id) == nil {
		unlogged = append(slices.Clip(unlogged), &store.Key{ID: id})
	}
	return keys, logDeletions(ctx, tx, unlogged)
}

// logDeletions enters deletions into the change log, for triggers that do not.
func logDeletions(ctx context.Context, tx *database, keys []*store.Key) error {
	if len(keys) == 0 {
		return nil
	}
	ids := make([]store.ID, 0, len(keys))
	for _, key := range keys {
		ids = append(ids, key.ID)
	}
	// The function takes the lock of the log, which is held until the commit.
	_, err := tx.Exec(ctx, "SELECT {own}.append($1::uuid[], 'd')", uuids(ids))
	return err
}

// rehash replaces a hash. It tells the trigger that logs the change that the new hash belongs to
// the same key, by a setting that ends with the transaction. A plain UPDATE of another program
// has no such setting, and is logged as a rekey.
const rehash = `UPDATE {keys} SET key_hash = $3 WHERE id = $1 AND key_hash = $2
    AND set_config('sidecar.rehashing{mark}', id || ':' || encode(sha256(convert_to($3, 'UTF8')), 'hex'), true) <> ''`

// RehashKey implements [store.Store].
//
// The update is one statement with the old hash in its condition, so of two calls with the same old
// hash one changes the row. Whether standbys have it is not checked: a hash that is lost
// is made again.
func (s *Store) RehashKey(ctx context.Context, id store.ID, old, renewed store.Hash) (err error) {
	ctx, end := s.call(ctx, "rehash_key", "rehash a key")
	defer end(&err)
	tag, err := s.exec(ctx, rehash, uuid(id), string(old), string(renewed))
	if err != nil || tag.RowsAffected() == 1 {
		return err
	}
	// A deleted key does not come back, so this read needs no transaction with the update.
	if _, err := s.key(ctx, id); err != nil {
		return err
	}
	return store.ErrConflict
}

// scanKey reads a key from a row of columns. More are the destinations of the columns after
// those. If all columns are NULL, the key is zero. If there is no row, the error is
// [store.ErrNotFound].
func scanKey(row sqlstore.Row, more ...any) (*store.Key, error) {
	return sqlstore.ScanKey(row, func(texts *[]string) any { return texts }, func(networks *[]netip.Prefix) any { return networks }, more...)
}

// uuid is an id in the type of pgx, which is never NULL.
func uuid(id store.ID) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: true} }

// orNull is uuid, with NULL for the zero id.
func orNull(id store.ID) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: id != (store.ID{})} }

// uuids returns nil, which is NULL, for nil alone.
func uuids(ids []store.ID) (all []pgtype.UUID) {
	if ids != nil {
		all = make([]pgtype.UUID, len(ids))
	}
	for i, id := range ids {
		all[i] = uuid(id)
	}
	return all
}

// instant returns a time as it is stored. The zero time is NULL. Only microseconds are kept.
func instant(t time.Time) pgtype.Timestamptz { return pgtype.Timestamptz{Time: t, Valid: !t.IsZero()} }

// These locks keep the acting key from being deleted or changed until the write is
// committed. FOR SHARE lets one acting key create several keys at the same time. A
// deletion needs FOR UPDATE, since the acting key may delete itself: two such deletions
// that share a lock would wait for each other. If two keys delete one another, they also
// wait in a circle, and the server breaks it.
const (
	forCreation = " FOR SHARE"
	forDeletion = " FOR UPDATE"
)

// allow locks the acting key and checks that it may write.
//
// Without an acting key everything is allowed. The errors are [store.ErrActorGone] and those of
// [store.Acting.Allow].
func allow(ctx context.Context, tx *database, acting *store.Acting, lock string) error {
	if acting == nil {
		return nil
	}
	key, err := scanKey(tx.QueryRow(ctx, "SELECT "+columns+" FROM {keys} WHERE id = $1"+lock, uuid(acting.ID)))
	return sqlstore.Allow(acting, key, err)
}
