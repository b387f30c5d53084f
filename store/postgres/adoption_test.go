package postgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// adopted reports whether an entry finds anything.
func adopted(tb testing.TB, s store.Store, digest [32]byte) bool {
	tb.Helper()
	_, err := s.Adopted(tb.Context(), [][32]byte{digest})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		tb.Fatal(err)
	}
	return err == nil
}

// TestPlainSQLEndsAdoption is TestPlainSQLEndsSessions for entries.
func TestPlainSQLEndsAdoption(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	id := store.ID{7}
	insert := func() {
		execute(t, dsn, "INSERT INTO system_keys (id, label, key_hash) VALUES ($1, 'bot', $2)", id.String(), hash)
	}
	for _, c := range []struct {
		statements string
		ends       bool
	}{
		{"TRUNCATE system_keys", true},
		{"SET session_replication_role = replica; DELETE FROM system_keys", true},
		{"UPDATE system_keys SET key_hash = key_hash || 'x'; UPDATE system_keys SET key_hash = '" + hash + "'", true},
		{"BEGIN; DELETE FROM system_keys; ROLLBACK", false},
		{"UPDATE system_keys SET permissions = '{a:b}', last_used_at = now()", false},
		{"CALL sidecar.revoke('" + id.String() + "')", true},
	} {
		insert()
		digest := [32]byte{byte(len(c.statements))}
		if err := s.Adopt(t.Context(), &store.AdoptedKey{Digest: digest, Key: id, Hash: hash}); err != nil {
			t.Fatal(err)
		}
		execute(t, dsn, c.statements)
		if c.ends {
			execute(t, dsn, "DELETE FROM system_keys")
			insert()
		}
		if got := adopted(t, s, digest); got == c.ends {
			t.Errorf("%s: the entry is there: %t", c.statements, got)
		}
		execute(t, dsn, "DELETE FROM system_keys")
	}
}

// TestATransactionThatBeganBeforeEndsAdoptionToo has a service change a key in a
// transaction that does not see the entry which was made since.
func TestATransactionThatBeganBeforeEndsAdoptionToo(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	id := store.ID{7}
	execute(t, dsn, "INSERT INTO system_keys (id, label, key_hash) VALUES ($1, 'bot', $2)", id.String(), hash)
	tx, err := connect(t, dsn).BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT FROM system_keys"); err != nil { // takes the snapshot
		t.Fatal(err)
	}
	if err := s.Adopt(t.Context(), &store.AdoptedKey{Digest: [32]byte{1}, Key: id, Hash: hash}); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "UPDATE system_keys SET key_hash = key_hash || 'x'"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if adopted(t, s, [32]byte{1}) {
		t.Error("the entry finds a key that has another hash")
	}
	if _, total, err := s.Unadopted(t.Context(), [][32]byte{{}}, time.Now(), 1); total != 1 || err != nil {
		t.Errorf("%d candidates (%v), want the key with its new hash", total, err)
	}
}
