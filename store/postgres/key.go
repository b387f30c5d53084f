package postgres

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// columns are those of a [store.Key] without its hash, as scanKey reads them.
const columns = "id, label, permissions, is_system, created_at, created_by, expires_at, last_used_at, minted"

// durable is a condition that holds, and that makes the statement's transaction
// wait for the disk where the server is set not to. Stricter settings, which
// wait for standbys too, stay as they are.
const durable = `(SELECT CASE current_setting('synchronous_commit')
    WHEN 'off' THEN set_config('synchronous_commit', 'on', true) ELSE '' END) IS NOT NULL`

const insertKey = "INSERT INTO system_keys (" + columns + ", key_hash) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 WHERE " + durable

// CreateKey implements [store.Store].
func (s *Store) CreateKey(ctx context.Context, key *store.Key, write *store.Write) error {
	err := s.on(ctx, write, forCreation, func(db querier) (*store.Key, error) {
		_, err := db.Exec(ctx, insertKey, uuid(key.ID), key.Label, append([]string{}, key.Permissions...), key.IsSystem,
			key.CreatedAt, key.CreatedBy, instant(key.ExpiresAt), instant(key.LastUsedAt), !key.Foreign,
			// As a store.Hash, pgx would send what its String method returns.
			string(key.Hash))
		return key, err
	})
	if code(err) == uniqueViolation {
		err = store.ErrConflict
	}
	return explain("create a key", err)
}

// fromKey gives one row in any case, with the row of a key, and the server's role
// and history of the same moment.
const fromKey = " FROM (VALUES (true)) AS one LEFT JOIN system_keys ON id = $1"

var selectKey = "SELECT " + columns + ", key_hash, pg_is_in_recovery(), " + atPlace(2) + fromKey

// Key implements [store.Store].
func (s *Store) Key(ctx context.Context, id store.ID) (*store.Key, error) {
	var key *store.Key
	err := s.believe(func() (err error) {
		known := s.seenArguments()
		key, err = readKey(s.pool.QueryRow(ctx, selectKey, uuid(id), known[0], known[1]))
		if !errors.Is(err, store.ErrNotFound) || known[2] == "" {
			return err
		}
		// A good key must not be refused on the word of an old primary that has not
		// got it. A row needs no such question: what ends one is logged.
		origin, err := s.origin(ctx, s.pool)
		if err != nil {
			return err
		}
		statement := "SELECT " + columns + ", key_hash, pg_is_in_recovery(), " + followed(origin, 2) + fromKey
		key, err = readKey(s.pool.QueryRow(ctx, statement, append([]any{uuid(id)}, known...)...))
		return err
	})
	if err != nil {
		return nil, explain("read a key", err)
	}
	return key, nil
}

func readKey(row pgx.Row) (*store.Key, error) {
	var hash *string
	var standby, followed bool
	key, err := scanKey(row, &hash, &standby, &followed)
	switch {
	case err != nil:
		return nil, err
	case standby:
		return nil, store.ErrStandby
	case !followed:
		return nil, store.ErrOtherHistory
	case hash == nil:
		return nil, store.ErrNotFound
	}
	key.Hash = store.Hash(*hash)
	return key, nil
}

// DeleteKey implements [store.Store].
func (s *Store) DeleteKey(ctx context.Context, id store.ID, write *store.Write) (*store.Key, error) {
	var key *store.Key
	err := s.on(ctx, write, forDeletion, func(db querier) (*store.Key, error) {
		var err error
		// The statement locks the table before it looks at the triggers, which nobody
		// can change then.
		var logged bool
		key, err = scanKey(db.QueryRow(ctx, "DELETE FROM system_keys WHERE id = $1 AND "+durable+
			" RETURNING "+columns+", "+watched, uuid(id)), &logged)
		if err == nil && logged {
			return key, nil
		}
		if err == nil || errors.Is(err, store.ErrNotFound) {
			_, err = db.Exec(ctx, "SELECT sidecar.append($1, 'd')", uuid(id))
		}
		return key, err
	})
	if err == nil && key == nil {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, explain("delete a key", err)
	}
	return key, nil
}

// rehash tells the trigger that logs it, in a setting that ends with the
// statement's transaction, that the new hash belongs to the same key.
const rehash = `UPDATE system_keys SET key_hash = $3 WHERE id = $1 AND key_hash = $2
    AND set_config('sidecar.rehashing', id || ':' || encode(sha256(convert_to($3, 'UTF8')), 'hex'), true) <> ''`

// RehashKey implements [store.Store].
func (s *Store) RehashKey(ctx context.Context, id store.ID, old, renewed store.Hash) error {
	const what = "rehash a key"
	var tag pgconn.CommandTag
	err := again(func() error {
		return s.transact(ctx, func(tx pgx.Tx) (err error) {
			tag, err = tx.Exec(ctx, rehash, uuid(id), string(old), string(renewed))
			return err
		})
	})
	if err != nil || tag.RowsAffected() == 1 {
		return explain(what, err)
	}
	// A key does not come back, so that two statements are enough.
	if _, err := s.Key(ctx, id); err != nil {
		return explain(what, err)
	}
	return explain(what, store.ErrConflict)
}

// scanKey reads the columns, and what was selected after them into more. Where
// more is not empty they may all be NULL.
func scanKey(row pgx.Row, more ...any) (*store.Key, error) {
	var (
		id                         pgtype.UUID
		label, createdBy           pgtype.Text
		permissions                []string
		isSystem, minted           pgtype.Bool
		created, expires, lastUsed pgtype.Timestamptz
	)
	err := row.Scan(append([]any{
		&id, &label, &permissions, &isSystem, &created, &createdBy, &expires, &lastUsed, &minted,
	}, more...)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, store.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	// Another service may have written the row. A key without permissions has
	// an empty list, not nil.
	slices.Sort(permissions)
	permissions = append([]string{}, slices.Compact(permissions)...)
	return &store.Key{
		ID: id.Bytes, Label: label.String, Permissions: permissions, IsSystem: isSystem.Bool,
		CreatedAt: utc(created), CreatedBy: createdBy.String, ExpiresAt: utc(expires), LastUsedAt: utc(lastUsed),
		Foreign: !minted.Bool,
	}, nil
}

func uuid(id store.ID) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: true} }

// instant gives a time as it is stored: NULL for the zero time.
func instant(t time.Time) pgtype.Timestamptz { return pgtype.Timestamptz{Time: t, Valid: !t.IsZero()} }

func utc(t pgtype.Timestamptz) time.Time {
	if !t.Valid {
		return time.Time{}
	}
	return t.Time.UTC()
}
