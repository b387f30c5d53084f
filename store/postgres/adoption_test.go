package postgres_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// ofBefore returns a database with the schema from before there were foreign keys,
// and what runs a script in it.
func ofBefore(t *testing.T) (dsn string, run func(script string)) {
	t.Helper()
	dsn = testenv.Database(t)
	conn := connect(t, dsn)
	run = func(script string) {
		t.Helper()
		if _, err := conn.PgConn().Exec(t.Context(), script).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	run("CREATE SCHEMA sidecar; CREATE TABLE sidecar.schema_migrations (version int PRIMARY KEY, name text NOT NULL, " +
		"applied_at timestamptz NOT NULL DEFAULT clock_timestamp())")
	scripts, err := filepath.Glob("migrations/000[1-5]_*.sql")
	if err != nil || len(scripts) != 5 {
		t.Fatalf("%v, %v", scripts, err)
	}
	for i, file := range scripts {
		script, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		run(string(script))
		run(fmt.Sprintf("INSERT INTO sidecar.schema_migrations VALUES (%d, '%s')", i+1, file))
	}
	return dsn, run
}

func TestRowsOfBeforeAreForeignIfSQLMadeThem(t *testing.T) {
	t.Parallel()
	dsn, run := ofBefore(t)
	want := map[store.ID]bool{}
	for i, by := range []string{"cli", "sql", "0198c9a1-0000-7000-8000-000000000000"} {
		id := store.ID{byte(i + 1)}
		want[id] = by == "sql"
		run(fmt.Sprintf("INSERT INTO system_keys (id, label, key_hash, created_by) VALUES ('%s', 'x', '%s', '%s')", id, hash, by))
	}
	s := open(t, dsn)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id, foreign := range want {
		if key, err := s.Key(t.Context(), id); err != nil || key.Foreign != foreign {
			t.Errorf("key of %q: foreign is %v, want %v (%v)", key.CreatedBy, key.Foreign, foreign, err)
		}
	}
	progress, err := s.Progress(t.Context(), store.ID{})
	if err != nil || !progress.Watched {
		t.Errorf("changes are watched: %v (%v)", progress.Watched, err)
	}
}

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
