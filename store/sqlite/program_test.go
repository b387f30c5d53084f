package sqlite_test

import (
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// TestTheSQLiteProgramCanChangeAndDelete has the sqlite3 of the system, which may
// be older than ours, change and delete keys: the triggers must not need what it
// does not have.
func TestTheSQLiteProgramCanChangeAndDelete(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Fatal("sqlite3 is needed: on Debian, apt-get install sqlite3")
	}
	file := filepath.Join(t.TempDir(), "keys.db")
	s, err := sqlite.Open(t.Context(), file, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := sample(t, s, "one")
	session := &store.Session{Digest: [32]byte{1}, Key: key.ID, ExpiresAt: time.Now().Add(time.Hour)}
	if err := s.CreateSession(t.Context(), session); err != nil {
		t.Fatal(err)
	}
	before, err := s.Progress(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	script := "UPDATE system_keys SET label = 'two'; UPDATE system_keys SET key_hash = key_hash || 'x'; DELETE FROM system_keys;"
	if text, err := exec.CommandContext(t.Context(), program, file, script).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	after, err := s.Progress(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := after.Head.Rev - before.Head.Rev; n != 3 || !after.Watched {
		t.Errorf("%d changes are logged, want 3; watched %v", n, after.Watched)
	}
	sample(t, s, "one") // with the same id
	if _, err := s.Session(t.Context(), session.Digest, time.Now()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Session = %v, want ErrNotFound", err)
	}
	page, err := s.Audit(t.Context(), &store.AuditQuery{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Records) != 1 || page.Records[0].Key != (store.AuditKey{ID: key.ID, Label: "two"}) || page.Records[0].Actor.Type != store.ActorSQL {
		t.Errorf("recorded are %+v", page.Records)
	}
}
