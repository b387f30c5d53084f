package sqlstore

import (
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// KeyColumns are the columns of a key without its hash, in the order in which ScanKey
// reads them.
const KeyColumns = "id, label, permissions, is_system, created_at, created_by, expires_at, last_used_at, minted, networks, " +
	"replaces, replaced_by, planned_expiry, grace_ms, ancestors"

// ScanKey reads a key from a row of KeyColumns. More are the destinations of the columns
// after those. If all columns are NULL, the key is zero. Texts and networks turn slices into
// destinations for columns of lists. If there is no row, the error is [store.ErrNotFound].
func ScanKey(
	row Row, texts func(*[]string) any, networks func(*[]netip.Prefix) any, more ...any,
) (*store.Key, error) {
	var key store.Key
	var prefixes []netip.Prefix
	var ancestors []string
	var label, createdBy sql.NullString
	var isSystem, minted sql.NullBool
	var grace sql.NullInt64
	err := row.Scan(append([]any{
		ID(&key.ID), &label, texts(&key.Permissions), &isSystem, (*instant)(&key.CreatedAt), &createdBy,
		(*optionalInstant)(&key.ExpiresAt), (*optionalInstant)(&key.LastUsedAt), &minted, networks(&prefixes),
		ID(&key.Replaces), ID(&key.ReplacedBy), (*optionalInstant)(&key.PlannedExpiry), &grace, texts(&ancestors),
	}, more...)...)
	if err = notFound(err); err != nil {
		return nil, err
	}
	key.Label, key.CreatedBy = label.String, createdBy.String
	key.IsSystem, key.Foreign = isSystem.Bool, !minted.Bool
	key.Networks = store.NewNetworks(prefixes)
	key.Grace = time.Duration(grace.Int64) * time.Millisecond
	for _, text := range ancestors {
		id, err := store.ParseID(text)
		if err != nil {
			return nil, fmt.Errorf("column ancestors: %w", err)
		}
		key.Ancestors = append(key.Ancestors, id)
	}
	// Another service may have written the row. A key without permissions has an empty
	// list, not nil.
	slices.Sort(key.Permissions)
	key.Permissions = append([]string{}, slices.Compact(key.Permissions)...)
	return &key, nil
}

// notFound turns the error that there is no row into that of the contract.
func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) { // pgx.ErrNoRows matches it too
		return store.ErrNotFound
	}
	return err
}

// KeyOf returns the key with this id, or nil if it is not among the keys.
func KeyOf(keys []*store.Key, id store.ID) *store.Key {
	at := slices.IndexFunc(keys, func(key *store.Key) bool { return key.ID == id })
	if at < 0 {
		return nil
	}
	return keys[at]
}

// WithHash reads a key by scan, and its hash from the column after KeyColumns. Calls that do not
// need the hash do not read it.
func WithHash(row Row, scan func(row Row, more ...any) (*store.Key, error)) (store.Key, error) {
	var hash string
	key, err := scan(row, &hash)
	if err != nil {
		return store.Key{}, err
	}
	key.Hash = store.Hash(hash)
	return *key, nil
}

// Ranked returns a function that reads a key by scan, and appends the column after KeyColumns
// to ranks. A rank is the value that the list was ordered by; see [store.KeyPage.Cut].
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

// MaxSorted bounds the lists that are made by fetching all rows that a filter keeps, and
// sorting them. If a filter keeps more rows, the index of the order is read and filtered
// row by row instead. With a million keys that fills the largest page after some 20,000
// rows.
const MaxSorted = 5000

// Allow checks that the acting key may write. Key and err are what reading its row gave.
//
// The driver has locked that row until the transaction ends. The error is [store.ErrActorGone] if
// the row is gone, any other err as it is, or that of [store.Acting.Allow].
func Allow(acting *store.Acting, key *store.Key, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return store.ErrActorGone
	}
	if err != nil {
		return err
	}
	return acting.Allow(key)
}

// Adoptable checks that a key can be adopted. Row has the hash of the stored key, and whether
// the key was minted here. The error is [store.ErrNotFound] if the key is gone, and
// [store.ErrConflict] if its hash is another one, or if it was minted here: such a key is found
// by its id.
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

// ScanSigningKey reads a signing key from a row of its id, its public key and its expiry. If all
// of them are NULL, the key is zero. A public key that is too short is an error. The tables hold
// none of another length.
func ScanSigningKey(row Row) (key store.SigningKey, err error) {
	var id sql.NullString
	var public []byte
	err = row.Scan(&id, &public, (*instant)(&key.ExpiresAt))
	key.ID = id.String
	copy(key.Public[:], public)
	if err == nil && id.Valid && len(public) != len(key.Public) {
		err = errors.New("a key has the wrong length")
	}
	return key, err
}

// ScanCandidate reads a key to adopt from a row of its id and its hash. More are the
// destinations of the columns after those. If both are NULL, the key is zero.
func ScanCandidate(row Row, more ...any) (key store.Candidate, err error) {
	var hash sql.NullString
	err = row.Scan(append([]any{ID(&key.ID), &hash}, more...)...)
	key.Hash = store.Hash(hash.String)
	return key, err
}

// MemberColumns are the columns of a member, in the order in which ScanMember reads them.
const MemberColumns = "m.id, m.beat, m.applied, m.ttl_ms, m.name, m.joined_at, m.seen_at"

// ScanMember reads a member from a row whose last columns are MemberColumns. Before are the
// destinations of the columns before those. If MemberColumns are all NULL, the member is
// zero.
func ScanMember(row Row, before ...any) (m store.Member, err error) {
	var heartbeat, applied, ttl sql.NullInt64
	var name sql.NullString
	err = row.Scan(append(before, ID(&m.ID), &heartbeat, &applied, &ttl, &name,
		(*instant)(&m.JoinedAt), (*instant)(&m.SeenAt))...)
	m.Heartbeat, m.Applied = heartbeat.Int64, applied.Int64
	m.Name, m.TTL = name.String, time.Duration(ttl.Int64)*time.Millisecond
	return m, err
}
