package sqlite_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// TestRowsOfBeforeAreForeignIfSQLMadeThem brings a schema from before there were
// foreign keys up to date.
func TestRowsOfBeforeAreForeignIfSQLMadeThem(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.db")
	scripts, err := filepath.Glob("migrations/000[1-5]_*.sql")
	if err != nil || len(scripts) != 5 {
		t.Fatalf("%v, %v", scripts, err)
	}
	for i, file := range scripts {
		script, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		execute(t, path, string(script))
		execute(t, path, "INSERT INTO schema_migrations VALUES (?, ?, 0)", i+1, file)
	}
	want := map[store.ID]bool{}
	for i, by := range []string{"cli", "sql", "0198c9a1-0000-7000-8000-000000000000"} {
		id := store.ID{byte(i + 1)}
		want[id] = by == "sql"
		execute(t, path, "INSERT INTO system_keys (id, label, key_hash, created_by) VALUES (?, ?, '$argon2id$', ?)",
			id.String(), fmt.Sprint(i), by)
	}
	s := open(t, path, sqlite.Options{})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id, foreign := range want {
		if key, err := s.Key(t.Context(), id); err != nil || key.Foreign != foreign {
			t.Errorf("key of %q: foreign is %v, want %v (%v)", key.CreatedBy, key.Foreign, foreign, err)
		}
	}
}

// TestAReplacedKeyEndsItsEntry replaces a key by a way of SQLite alone, which fires
// no trigger of a deletion.
func TestAReplacedKeyEndsItsEntry(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.db")
	s := migrated(t, path)
	execute(t, path, "INSERT INTO system_keys (id, label, key_hash) VALUES (?, 'one', '$argon2id$')", store.ID{1}.String())
	digest := [32]byte{1}
	if err := s.Adopt(t.Context(), &store.AdoptedKey{Digest: digest, Key: store.ID{1}, Hash: "$argon2id$"}); err != nil {
		t.Fatal(err)
	}
	execute(t, path, "INSERT OR REPLACE INTO system_keys (id, label, key_hash) SELECT id, label, key_hash FROM system_keys")
	if got, err := s.Adopted(t.Context(), [][32]byte{digest}); err == nil {
		t.Errorf("it is still found: %s", got.ID)
	}
}

// TestAnEntryIsForItsHashAlone gives a key another hash where no trigger sees it, as
// in a table that was made anew.
func TestAnEntryIsForItsHashAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.db")
	s := migrated(t, path)
	execute(t, path, "INSERT INTO system_keys (id, label, key_hash) VALUES (?, 'one', '$argon2id$')", store.ID{1}.String())
	digests := [][32]byte{{1}}
	if err := s.Adopt(t.Context(), &store.AdoptedKey{Digest: digests[0], Key: store.ID{1}, Hash: "$argon2id$"}); err != nil {
		t.Fatal(err)
	}
	execute(t, path, "DROP TRIGGER system_keys_log_update; UPDATE system_keys SET key_hash = '$argon2id$another'")
	if got, err := s.Adopted(t.Context(), digests); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Adopted = %s, %v; want ErrNotFound", got.ID, err)
	}
	if keys, total, err := s.Unadopted(t.Context(), [][32]byte{{}}, time.Now(), 1); len(keys) != 1 || total != 1 || err != nil {
		t.Errorf("%d of %d candidates (%v), want the key with its new hash", len(keys), total, err)
	}
}
