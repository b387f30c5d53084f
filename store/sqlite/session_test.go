package sqlite_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestReplacedKeysEndTheirSessions replaces a key by ways of SQLite alone, which
// fire no trigger of a deletion.
func TestReplacedKeysEndTheirSessions(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.db")
	s := migrated(t, path)
	row := "(id, label, key_hash) SELECT id, 'replaced', key_hash || 'x' FROM system_keys WHERE true"
	for i, statement := range []string{
		"INSERT OR REPLACE INTO system_keys " + row,
		"REPLACE INTO system_keys " + row,
		"INSERT INTO system_keys " + row + " ON CONFLICT (id) DO UPDATE SET key_hash = excluded.key_hash",
		"UPDATE OR REPLACE system_keys SET key_hash = key_hash || 'x'",
	} {
		key := sample(t, s, "one")
		session := &store.Session{Digest: [32]byte{byte(i)}, Key: key.ID, ExpiresAt: time.Now().Add(time.Hour)}
		if err := s.CreateSession(t.Context(), session); err != nil {
			t.Fatal(err)
		}
		execute(t, path, statement)
		if got, err := s.Key(t.Context(), key.ID); err != nil || got.Hash == key.Hash {
			t.Fatalf("%s: the key was not replaced: %v", statement, err)
		}
		if _, err := s.Session(t.Context(), session.Digest, time.Now()); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: Session = %v, want ErrNotFound", statement, err)
		}
		execute(t, path, "DELETE FROM system_keys")
	}
}

func TestAChangeOfEverythingEndsAllSessions(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.db")
	s := migrated(t, path)
	key := sample(t, s, "one")
	session := &store.Session{Key: key.ID, ExpiresAt: time.Now().Add(time.Hour)}
	if err := s.CreateSession(t.Context(), session); err != nil {
		t.Fatal(err)
	}
	execute(t, path, "INSERT INTO change_log (op) VALUES ('b')")
	if _, err := s.Session(t.Context(), session.Digest, time.Now()); err != nil {
		t.Errorf("after a barrier: Session = %v", err)
	}
	execute(t, path, "INSERT INTO change_log (op) VALUES ('f')")
	if _, err := s.Session(t.Context(), session.Digest, time.Now()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Session = %v, want ErrNotFound", err)
	}
}
