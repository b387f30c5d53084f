package sqlstore

import (
	"database/sql"
	"errors"
	"slices"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// KeyColumns are the columns of a key without its hash, in the order in which ScanKey
// reads them.
const KeyColumns = "id, label, permissions, is_system, created_at, created_by, expires_at, last_used_at, minted"

// ScanKey reads a key from a row of the columns, and what was selected after them into
// more. If all columns are NULL the key is zero. List makes a list the destination of the
// column of permissions. The error is [store.ErrNotFound] if there is no row.
func ScanKey(row Row, list func(permissions *[]string) any, more ...any) (*store.Key, error) {
	var key store.Key
	var label, createdBy sql.NullString
	var isSystem, minted sql.NullBool
	err := row.Scan(append([]any{
		ID(&key.ID), &label, list(&key.Permissions), &isSystem, (*instant)(&key.CreatedAt), &createdBy,
		(*optionalInstant)(&key.ExpiresAt), (*optionalInstant)(&key.LastUsedAt), &minted,
	}, more...)...)
	if errors.Is(err, sql.ErrNoRows) { // which that of pgx matches
		return nil, store.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	key.Label, key.CreatedBy = label.String, createdBy.String
	key.IsSystem, key.Foreign = isSystem.Bool, !minted.Bool
	// Another service may have written the row. A key without permissions has an empty
	// list, not nil.
	slices.Sort(key.Permissions)
	key.Permissions = append([]string{}, slices.Compact(key.Permissions)...)
	return &key, nil
}

// WithHash reads a key by scan, with its hash behind the columns.
func WithHash(row Row, scan func(row Row, more ...any) (*store.Key, error)) (store.Key, error) {
	var hash string
	key, err := scan(row, &hash)
	if err != nil {
		return store.Key{}, err
	}
	key.Hash = store.Hash(hash)
	return *key, nil
}

// Ranked returns a scan of keys that keeps their ranks, which are behind the columns. A rank
// is what a list was ordered by; see [store.KeyPage.Cut].
func Ranked(ranks *[]string, scan func(row Row, more ...any) (*store.Key, error)) func(row Row) (store.Key, error) {
	return func(row Row) (store.Key, error) {
		var rank string
		key, err := scan(row, &rank)
		if err != nil {
			return store.Key{}, err
		}
		*ranks = append(*ranks, rank)
		return *key, nil
	}
}

// Few is how many matches a filter of a list may have for them to be fetched and sorted.
// If it has more, the list is walked in order and filtered, which fills a page of the
// largest size within a million keys after some 20,000 rows.
const Few = 5000

// Allow judges a write by the acting key, which was read with this error.
func Allow(acting *store.Acting, key *store.Key, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return store.ErrActorGone
	}
	if err != nil {
		return err
	}
	return acting.Allow(key)
}

// Adoptable judges whether a key can be adopted, by a row of its hash and of whether it
// was minted here.
func Adoptable(row Row, key *store.AdoptedKey) error {
	var hash string
	var minted bool
	err := row.Scan(&hash, &minted)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return store.ErrNotFound
	case err != nil:
		return err
	case minted || hash != string(key.Hash):
		return store.ErrConflict
	}
	return nil
}

// ScanSigningKey reads a signing key from a row of its id, its public key and its end. If
// all of them are NULL the key is zero.
func ScanSigningKey(row Row) (key store.SigningKey, err error) {
	var id sql.NullString
	var public []byte
	err = row.Scan(&id, &public, (*instant)(&key.ExpiresAt))
	key.ID = id.String
	if err == nil && id.Valid && copy(key.Public[:], public) != len(key.Public) {
		err = errors.New("a key has the wrong length")
	}
	return key, err
}

// ScanCandidate reads a key to adopt from a row of its id and its hash, and what was
// selected after them into more. If both are NULL the key is zero.
func ScanCandidate(row Row, more ...any) (key store.Candidate, err error) {
	var hash sql.NullString
	err = row.Scan(append([]any{ID(&key.ID), &hash}, more...)...)
	key.Hash = store.Hash(hash.String)
	return key, err
}
