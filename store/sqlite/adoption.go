package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"time"

	sqlite3 "modernc.org/sqlite"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// selectAdopted takes one digest, and selectUnadopted one era. See forMany for more.
//
// Both compare the proof of an entry with the hash that the key has now. So an entry does not
// count for a row that another program has put in the place of the key's. In selectUnadopted the
// inner limit ends the count, so that one walk along the index system_keys_foreign is enough.
const (
	selectAdopted = "SELECT k.id, k.key_hash FROM adopted_key a JOIN system_keys k ON k.id = a.key_id AND k.minted = 0 " +
		"AND a.key_proof = " + keyProof + " WHERE a.digest IN (?) LIMIT 1"
	selectUnadopted = "WITH counted AS MATERIALIZED (" +
		"SELECT id, key_hash, created_at FROM system_keys k INDEXED BY system_keys_foreign " +
		"WHERE minted = 0 AND (expires_at = 0 OR expires_at > ?) AND NOT EXISTS (" +
		"SELECT 1 FROM adopted_key a WHERE a.key_id = k.id AND a.era IN (?) AND a.key_proof = " + keyProof + ") " +
		"ORDER BY created_at, id LIMIT ?) " +
		"SELECT id, key_hash, (SELECT count(*) FROM counted) FROM counted ORDER BY created_at, id LIMIT ?"
)

// keyProof is the digest of the hash of the key k, which an entry keeps. See [proof]. Other
// programs do not have this function, so no trigger may use it.
const keyProof = "caddy_system_keys_proof(k.key_hash)"

var _ = registerProof()

// registerProof makes keyProof known to all connections that the driver opens, once for the
// process. The function is deterministic (https://sqlite.org/deterministic.html): the same hash
// always has the same proof.
func registerProof() struct{} {
	sqlite3.MustRegisterDeterministicScalarFunction("caddy_system_keys_proof", 1,
		func(_ *sqlite3.FunctionContext, args []driver.Value) (driver.Value, error) {
			hash, ok := args[0].(string)
			if !ok {
				return nil, nil // NULL, which equals nothing
			}
			return proof(store.Hash(hash)), nil
		})
	return struct{}{}
}

// proof is the SHA-256 of a hash. An entry has it instead of the hash.
func proof(hash store.Hash) []byte {
	sum := sha256.Sum256([]byte(hash))
	return sum[:]
}

// forMany gives the list of a statement n placeholders, which may be 0. The list IN () is none
// in standard SQL, but SQLite takes it as empty (https://sqlite.org/lang_expr.html, about IN).
func forMany(statement string, n int) string {
	return strings.Replace(statement, "IN (?)", "IN ("+strings.TrimSuffix(strings.Repeat("?, ", n), ", ")+")", 1)
}

// Adopted implements [store.Adoption]. With several digests that are entered, any one of their
// keys is the answer.
func (s *Store) Adopted(ctx context.Context, digests [][32]byte) (_ store.Candidate, err error) {
	ctx, end := s.calls.Begin(ctx, "adopted")
	defer end(&err)
	return result(ctx, s.readFollowed, "find an adopted key", func(tx *sql.Tx) (key store.Candidate, err error) {
		key, err = sqlstore.ScanCandidate(tx.QueryRowContext(ctx, forMany(selectAdopted, len(digests)), blobs(digests)...))
		if errors.Is(err, sql.ErrNoRows) {
			err = store.ErrNotFound
		}
		return key, err
	})
}

// Adopt implements [store.Adoption]. The look at the key and the entry are one transaction, and
// the hash cannot change in between.
func (s *Store) Adopt(ctx context.Context, key *store.AdoptedKey) (err error) {
	ctx, end := s.calls.Begin(ctx, "adopt")
	defer end(&err)
	return s.write(ctx, "adopt a key", func(tx *sql.Tx) error {
		row := tx.QueryRowContext(ctx, "SELECT key_hash, minted FROM system_keys WHERE id = ?", key.Key.String())
		if err := sqlstore.Adoptable(row, key); err != nil {
			return err
		}
		// REPLACE removes every row that conflicts with either constraint.
		_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO adopted_key (digest, era, key_id, key_proof) VALUES (?, ?, ?, ?)",
			key.Digest[:], key.Era[:], key.Key.String(), proof(key.Hash))
		return err
	})
}

// Unadopted implements [store.Adoption]. Each row has the total, so without a row it stays 0.
func (s *Store) Unadopted(
	ctx context.Context, eras [][32]byte, now time.Time, limit int,
) (keys []store.Candidate, total int, err error) {
	ctx, end := s.calls.Begin(ctx, "unadopted")
	defer end(&err)
	args := append(append([]any{now.UnixMicro()}, blobs(eras)...), store.MaxUnadopted, limit)
	candidate := func(row sqlstore.Row) (store.Candidate, error) { return sqlstore.ScanCandidate(row, &total) }
	keys, err = result(ctx, s.readFollowed, "list keys to adopt", func(tx *sql.Tx) ([]store.Candidate, error) {
		return collect(ctx, tx, candidate, forMany(selectUnadopted, len(eras)), args...)
	})
	if err != nil {
		total = 0
	}
	return keys, total, err
}

func blobs(values [][32]byte) []any {
	args := make([]any, len(values))
	for i := range values {
		args[i] = values[i][:]
	}
	return args
}
