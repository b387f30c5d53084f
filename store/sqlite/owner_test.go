//go:build unix

package sqlite_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// foreign returns the path of a file that belongs to another user. Only root
// can give a file away; for others one of root's own serves.
func foreign(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		return "/etc/hostname"
	}
	path := filepath.Join(t.TempDir(), "keys.db")
	s := open(t, path, sqlite.Options{})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSameOwnerRefusesAnotherUsersFile(t *testing.T) {
	t.Parallel()
	path := foreign(t)
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{MustExist: true, SameOwner: true})
	if err == nil {
		t.Fatalf("it was opened (%v)", s.Close())
	}
	if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "belongs to user") {
		t.Errorf("error = %q, want the path and the owner", err)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if _, err := os.Stat(path + suffix); err == nil {
			t.Errorf("%s was left behind", path+suffix)
		}
	}
}

func TestSameOwnerTakesTheUsersOwnFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.db")
	for range 2 { // created, then found
		s := open(t, path, sqlite.Options{SameOwner: true})
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Uid != uint32(os.Geteuid()) {
		t.Errorf("the file's owner is %+v", stat)
	}
}
