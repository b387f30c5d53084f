package fleet_test

import (
	"database/sql"
	"errors"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Case 38: processes on one file.
func TestOtherProcessesOnOneFile(t *testing.T) {
	t.Parallel()
	f := newEmbedded(t, 10*time.Second)
	server := f.instances[0]

	key, plain := f.mint("revoked by the command line")
	l, stream := hammer(t, key, plain, server), openEvents(t, server, plain)
	asked := time.Now()
	_, said, err := f.command("revoke", key.ID.String(), "--yes")
	answered := time.Now()
	if err != nil || !strings.Contains(said, "1 of 1 server(s) acknowledged") {
		t.Errorf("%v: %s", err, said)
	}
	stream.wantEnd(t, asked, promptly)
	settle()
	l.stop()
	l.wantNoneAfter(t, answered)
	if l.count(server, http.StatusUnauthorized) == 0 {
		t.Errorf("clients got %s", l.summary())
	}

	key, plain = f.mint("deleted by plain SQL")
	l, stream = hammer(t, key, plain, server), openEvents(t, server, plain)
	db := f.open()
	asked = time.Now()
	if _, err := db.ExecContext(t.Context(), "DELETE FROM system_keys WHERE label = 'deleted by plain SQL'"); err != nil {
		t.Fatal(err)
	}
	l.wantRefused(t, promptly)
	stream.wantEnd(t, asked, promptly)
	l.stop()
}

// open opens the file in this process, with one connection. It is closed with the test.
func (f *fleet) open() *sql.DB {
	f.tb.Helper()
	db, err := sql.Open("sqlite", "file:"+f.file+"?_pragma=busy_timeout(20000)")
	if err != nil {
		f.tb.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	f.tb.Cleanup(func() { _ = db.Close() })
	return db
}

// A server on SQLite that is stopped is waited for like any other.
func TestStoppedOnOneFile(t *testing.T) {
	t.Parallel()
	f := newEmbedded(t, shortLease)
	server := f.instances[0]
	key, plain := f.mint("bot")
	l := hammer(t, key, plain, server)
	// Stopped in a write of its own the server would keep every other process from writing.
	db := f.open()
	if _, err := db.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	server.signal(syscall.SIGSTOP)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, said, err := f.command("revoke", key.ID.String(), "--yes")
	answered := time.Now()
	if err != nil || answered.Sub(began) < shortLease*8/10 {
		t.Errorf("after %v: %v: %s", answered.Sub(began), err, said)
	}
	server.signal(syscall.SIGCONT)
	settle()
	l.stop()
	l.wantNoneAfter(t, answered)
}

// Whoever puts another file in the place of the one that a server has open gets
// no answer from the server any more, and nothing that it would forget.
func TestAFileThatIsReplacedUnderAServer(t *testing.T) {
	t.Parallel()
	f := newEmbedded(t, 30*time.Second)
	server := f.instances[0]
	key, plain := f.mint("bot")
	eventually(t, "the key works", func() bool { status, _ := server.get("/ok", plain); return status == http.StatusOK })
	copied, err := os.ReadFile(f.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(f.file), os.WriteFile(f.file, copied, 0o600)); err != nil {
		t.Fatal(err)
	}
	if status, body, _ := server.revoke(key); status != http.StatusServiceUnavailable {
		t.Errorf("DELETE = %d %s, want 503", status, body)
	}
	eventually(t, "what it remembers is not trusted, long before the lease has run out", func() bool {
		status, _ := server.get("/ok", plain)
		return status == http.StatusServiceUnavailable
	})
	eventually(t, "the log says which file, and what to do", func() bool {
		return strings.Contains(server.tail(), f.file) && strings.Contains(server.tail(), "put the right database in place and restart")
	})
	if key, err := f.store.Key(t.Context(), key.ID); !errors.Is(err, store.ErrReplaced) {
		t.Errorf("another process that has the file open reads %v, %v", key, err)
	}
}
