package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// columns are the columns of a [store.Key] without its hash.
const columns = sqlstore.KeyColumns

// insertKey takes the values that keyRow returns.
const insertKey = "INSERT INTO system_keys (" + columns + ", key_hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

// CreateKey implements [store.Store].
//
// The insert fires the triggers of the key table, which count the row and enter it into the index
// of the search. An id that is taken is [store.ErrConflict], by the unique index.
func (s *Store) CreateKey(ctx context.Context, key *store.Key, write *store.Write) (err error) {
	ctx, end := s.calls.Begin(ctx, "create_key")
	defer end(&err)
	row, err := keyRow(key)
	if err != nil {
		return fmt.Errorf("create a key: %w", err)
	}
	return s.write(ctx, "create a key", func(tx *sql.Tx) error {
		if err := allow(ctx, tx, write.By()); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, insertKey, row...); err != nil {
			return err
		}
		return record(ctx, tx, write, key)
	})
}

// Key implements [store.Store]. The answer counts only if it comes from the history that is
// followed.
func (s *Store) Key(ctx context.Context, id store.ID) (_ *store.Key, err error) {
	ctx, end := s.calls.Begin(ctx, "key")
	defer end(&err)
	return result(ctx, s.readFollowed, "read a key", func(tx *sql.Tx) (*store.Key, error) {
		row := tx.QueryRowContext(ctx, "SELECT "+columns+", key_hash FROM system_keys WHERE id = ?", id.String())
		key, err := sqlstore.WithHash(row, scanKey)
		return &key, err
	})
}

// DeleteKey implements [store.Store].
//
// With [store.ErrNotFound] the transaction is committed too: the entry in the change log is in it.
func (s *Store) DeleteKey(ctx context.Context, id store.ID, write *store.Write) (_ *store.Key, err error) {
	ctx, end := s.calls.Begin(ctx, "delete_key")
	defer end(&err)
	const what = "delete a key"
	key, err := result(ctx, s.write, what, func(tx *sql.Tx) (*store.Key, error) {
		if err := allow(ctx, tx, write.By()); err != nil {
			return nil, err
		}
		keys, err := deleteKey(ctx, tx, id, write)
		if err != nil {
			return nil, err
		}
		return sqlstore.KeyOf(keys, id), record(ctx, tx, write, keys...)
	})
	if err == nil && key == nil {
		err = fmt.Errorf("%s: %w", what, store.ErrNotFound)
	}
	return key, err
}

// deleteKey deletes the key and those that come from it, and returns them. It enters the
// deletion of the key into the change log even if there is no such key.
//
// A key without a row may still be in the caches of an instance, for instance if its row was
// deleted while the triggers were away. The entry ends it there.
func deleteKey(ctx context.Context, tx *sql.Tx, id store.ID, write *store.Write) ([]*store.Key, error) {
	keys, err := collect(ctx, tx, func(row sqlstore.Row) (*store.Key, error) { return scanKey(row) },
		"SELECT "+columns+" FROM system_keys WHERE id = ?1 OR "+descends+"(?1))", id.String())
	if err != nil {
		return nil, err
	}
	if err := deleteRows(ctx, tx, keys, write); err != nil {
		return nil, err
	}
	if sqlstore.KeyOf(keys, id) == nil {
		_, err = tx.ExecContext(ctx, "INSERT INTO change_log (key_id, op) VALUES (?, 'd')", id.String())
	}
	return keys, err
}

// RehashKey implements [store.Store].
//
// The row in the table rehashing comes before the update, since the trigger looks for it, and
// goes before the commit. A plain UPDATE of another program finds none, and is logged as a rekey.
func (s *Store) RehashKey(ctx context.Context, id store.ID, old, renewed store.Hash) (err error) {
	ctx, end := s.calls.Begin(ctx, "rehash_key")
	defer end(&err)
	return s.write(ctx, "rehash a key", func(tx *sql.Tx) error {
		// This tells the trigger that logs the change that it is a rehash.
		_, err := tx.ExecContext(ctx, "INSERT INTO rehashing (id, key_hash) VALUES (?, ?)", id.String(), string(renewed))
		if err != nil {
			return err
		}
		n, err := changed(tx.ExecContext(ctx, "UPDATE system_keys SET key_hash = ? WHERE id = ? AND key_hash = ?",
			string(renewed), id.String(), string(old)))
		if err != nil {
			return err
		}
		if _, err = tx.ExecContext(ctx, "DELETE FROM rehashing"); err == nil && n == 1 {
			// In PostgreSQL a trigger does this. SQLite has no SHA-256 for one.
			_, err = tx.ExecContext(ctx, "UPDATE adopted_key SET key_proof = ? WHERE key_id = ? AND key_proof = ?",
				proof(renewed), id.String(), proof(old))
		}
		if err != nil || n == 1 {
			return err
		}
		// No row was updated. This tells a key with another hash from one that is gone.
		var exists bool
		err = tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM system_keys WHERE id = ?)", id.String()).Scan(&exists)
		switch {
		case err != nil:
			return err
		case exists:
			return store.ErrConflict
		}
		return store.ErrNotFound
	})
}

// scanKey reads a key from a row of columns. More are the destinations of the columns after
// those. If there is no row, the error is [store.ErrNotFound].
func scanKey(row sqlstore.Row, more ...any) (*store.Key, error) {
	return sqlstore.ScanKey(row, func(texts *[]string) any { return (*jsonList)(texts) },
		func(networks *[]netip.Prefix) any { return (*jsonNetworks)(networks) }, more...)
}

// jsonTexts reads a JSON array. Another program may have written it, and the table does not check
// each element. So an element that is no text becomes the empty one: with an error no list that
// has the key could be read. A value that is no array is an error.
func jsonTexts(value any) ([]string, error) {
	text, ok := value.(string)
	if !ok {
		return nil, fmt.Errorf("a list is %T", value)
	}
	var elements []json.RawMessage
	if err := json.Unmarshal([]byte(text), &elements); err != nil {
		return nil, err
	}
	texts := make([]string, len(elements))
	for i, element := range elements {
		_ = json.Unmarshal(element, &texts[i]) // null and what is no text leave it empty
	}
	return texts, nil
}

// jsonList is the destination of a column with a JSON array of permissions or ancestors. An
// element that is no text is left out: it grants nothing.
type jsonList []string

// Scan implements the Scanner of database/sql.
func (l *jsonList) Scan(value any) error {
	texts, err := jsonTexts(value)
	*l = slices.DeleteFunc(texts, func(text string) bool { return text == "" })
	return err
}

// jsonNetworks is the destination of a column with a JSON array of networks.
type jsonNetworks []netip.Prefix

// Scan implements the Scanner of database/sql. An element that is no network, and a value that is
// no array, become the zero prefix, which contains no address. To leave them out could let the key
// be used from anywhere.
func (n *jsonNetworks) Scan(value any) error {
	texts, err := jsonTexts(value)
	if err != nil {
		texts = []string{""}
	}
	for _, text := range texts {
		read, err := store.ParseNetworks([]string{text})
		if err != nil {
			read = store.Networks{{}}
		}
		*n = append(*n, read...)
	}
	return nil
}

// keyRow returns the values of the columns of a key, and its hash as the last one. An empty list
// is the empty array: the checks of the table refuse NULL and the JSON null.
func keyRow(key *store.Key) ([]any, error) {
	permissions, err := json.Marshal(append([]string{}, key.Permissions...)) // never null
	if err != nil {
		return nil, err
	}
	networks, err := json.Marshal(key.Networks.Strings())
	if err != nil {
		return nil, err
	}
	return []any{
		key.ID.String(), key.Label, string(permissions), key.IsSystem, micros(key.CreatedAt), key.CreatedBy,
		micros(key.ExpiresAt), micros(key.LastUsedAt), !key.Foreign, string(networks),
		orNull(key.Replaces), orNull(key.ReplacedBy), micros(key.PlannedExpiry), key.Grace.Milliseconds(), jsonIDs(key.Ancestors), string(key.Hash),
	}, nil
}

// orNull returns an id as it is stored, and NULL for the zero id.
func orNull(id store.ID) any {
	if id == (store.ID{}) {
		return nil
	}
	return id.String()
}

// jsonIDs returns ids as a JSON array, which a statement reads by json_each. So one argument takes
// any number of ids. The number of placeholders is bounded (https://sqlite.org/limits.html).
func jsonIDs(ids []store.ID) string {
	texts := make([]string, 0, len(ids))
	for _, id := range ids {
		texts = append(texts, id.String())
	}
	array, _ := json.Marshal(texts) // of ids, which always encode
	return string(array)
}

// micros returns a time as it is stored. The zero time is 0. What is finer than a microsecond is
// cut off.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// allow checks the acting key in the transaction of its write. The transaction holds the
// write lock from its start, so nobody changes the row before the transaction ends.
//
// Without an acting key everything is allowed. The errors are [store.ErrActorGone] and those of
// [store.Acting.Allow].
func allow(ctx context.Context, tx *sql.Tx, acting *store.Acting) error {
	if acting == nil {
		return nil
	}
	key, err := scanKey(tx.QueryRowContext(ctx, "SELECT "+columns+" FROM system_keys WHERE id = ?", acting.ID.String()))
	return sqlstore.Allow(acting, key, err)
}

// ping is a call that has nothing to do. It fails if the store is closed.
func (s *Store) ping(ctx context.Context) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.running.Done()
	return context.Cause(ctx)
}
