package postgres

import (
	"context"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// fromAdopted always gives one row, with the key or NULL, so that serverColumns are of the
// same moment. The keys come first, since TRUNCATE locks the tables in this order.
const fromAdopted = ", found.id, found.key_hash FROM (VALUES (true)) AS one LEFT JOIN (" +
	"SELECT k.id, k.key_hash FROM {keys} k JOIN {own}.adopted_key a ON a.key_id = k.id AND a.key_proof = " + keyProof +
	" WHERE a.digest = ANY ($1::bytea[]) AND NOT k.minted LIMIT 1) AS found ON true"

// Adopted implements [store.Adoption].
//
// An entry counts only while its proof is that of the hash which the key has now. With several
// digests that are entered, any one of their keys is the answer. [store.ErrNotFound] counts only
// from a primary with the history that is followed.
func (s *Store) Adopted(ctx context.Context, digests [][32]byte) (_ store.Candidate, err error) {
	ctx, end := s.call(ctx, "adopted", "find an adopted key")
	defer end(&err)
	return sqlstore.Result(ctx, s.readFollowed, func(db *database) (store.Candidate, error) {
		statement := "SELECT " + serverColumns(2) + fromAdopted
		row := db.QueryRow(ctx, statement, append([]any{byteas(digests)}, s.seenArguments()...)...)
		key, err := sqlstore.ScanCandidate(checkedRow{row: row})
		if err == nil && key == (store.Candidate{}) {
			err = store.ErrNotFound
		}
		return key, err
	})
}

// lockForAdoption locks the key until the entry is committed. A change of its hash, or its
// deletion, comes either before, and is seen here, or after, and ends the entry. If several
// instances adopt one key, each waits for the one before.
const lockForAdoption = "SELECT key_hash, minted FROM {keys} WHERE id = $1 FOR NO KEY UPDATE"

// insertAdopted takes the proof from the row, which is locked and has been compared with the
// hash of the entry.
const insertAdopted = "INSERT INTO {own}.adopted_key (digest, era, key_id, key_proof) " +
	"SELECT $1, $2, k.id, " + keyProof + " FROM {keys} k WHERE k.id = $3"

// Adopt implements [store.Adoption].
//
// The old entries go by a statement of their own, since either of two unique constraints may be in
// the way of the new one.
func (s *Store) Adopt(ctx context.Context, key *store.AdoptedKey) (err error) {
	ctx, end := s.call(ctx, "adopt", "adopt a key")
	defer end(&err)
	err = s.transact(ctx, func(tx *database) error {
		if err := sqlstore.Adoptable(tx.QueryRow(ctx, lockForAdoption, uuid(key.Key)), key); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DELETE FROM {own}.adopted_key WHERE digest = $1 OR key_id = $2 AND era = $3",
			key.Digest[:], uuid(key.Key), key.Era[:])
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, insertAdopted, key.Digest[:], key.Era[:], uuid(key.Key))
		return err
	})
	return conflict(err) // another key was entered under the same digest at the same time
}

// countUnadopted and fromUnadopted give at least one row. The count stops at a bound, so that
// one walk along the index is enough. The index system_keys_foreign has the keys that were not
// minted, in this order.
const countUnadopted = "WITH counted AS MATERIALIZED (" +
	"SELECT k.id, k.key_hash, k.created_at FROM {keys} k " +
	"WHERE NOT k.minted AND (k.expires_at IS NULL OR k.expires_at > $2) AND NOT EXISTS (" +
	"SELECT FROM {own}.adopted_key a WHERE a.key_id = k.id AND a.era = ANY ($1::bytea[]) AND a.key_proof = " + keyProof + ") " +
	"ORDER BY k.created_at, k.id LIMIT $4) "

// fromUnadopted gives the count with each row. If there is no key, its one row has NULL and 0.
const fromUnadopted = ", found.id, found.key_hash, (SELECT count(*) FROM counted) FROM (VALUES (true)) AS one " +
	"LEFT JOIN (SELECT * FROM counted ORDER BY created_at, id LIMIT $3) AS found ON true ORDER BY found.created_at, found.id"

// Unadopted implements [store.Adoption].
func (s *Store) Unadopted(
	ctx context.Context, eras [][32]byte, now time.Time, limit int,
) (keys []store.Candidate, total int, err error) {
	ctx, end := s.call(ctx, "unadopted", "list keys to adopt")
	defer end(&err)
	keys, err = sqlstore.Result(ctx, s.readFollowed, func(db *database) ([]store.Candidate, error) {
		return collect(ctx, db, func(row sqlstore.Row) (store.Candidate, error) {
			return sqlstore.ScanCandidate(checkedRow{row: row}, &total)
		}, countUnadopted+"SELECT "+serverColumns(5)+fromUnadopted,
			append([]any{byteas(eras), now, limit, store.MaxUnadopted}, s.seenArguments()...)...)
	})
	if err != nil || total == 0 { // with total 0 there is only the row without a key
		return nil, 0, err
	}
	return keys, total, nil
}

// byteas returns values for an array of bytea, which is never NULL.
func byteas(values [][32]byte) [][]byte {
	all := make([][]byte, len(values))
	for i := range values {
		all[i] = values[i][:]
	}
	return all
}
