package sqlite_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

func TestOpenCreatesAFileForThisUserAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.db")
	s := open(t, path, sqlite.Options{})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.Path() != path {
		t.Errorf("Path = %q, want %q", s.Path(), path)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("%s has mode %o, want 600", filepath.Base(path+suffix), got)
		}
	}
}

func TestOpenTakesAnyPathLiterally(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"a?mode=memory", "a#b", "100%", "%20", "a b", "Schlüssel 鍵.db", "a&b=c;d", "file:x", "'quoted\"", `back\slash`,
		":memory:", "+", "?", "a%00b", " ",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		for range 2 {
			s := open(t, path, sqlite.Options{SameOwner: true})
			if err := s.Migrate(t.Context()); err != nil {
				t.Fatalf("%q: %v", name, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != 1 || entries[0].Name() != name {
			t.Errorf("opening %q left %v", name, entries)
		}
	}
}

func TestOpenTakesARelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	s := open(t, "keys.db", sqlite.Options{})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("keys.db"); err != nil {
		t.Error(err)
	}
}

func TestOpenExplainsWhatItRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("this is not a database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		opts sqlite.Options
		want string
	}{
		"no file where one must be":                     {filepath.Join(dir, "absent.db"), sqlite.Options{MustExist: true}, "there is no database at"},
		"a folder that is not there":                    {filepath.Join(dir, "absent", "keys.db"), sqlite.Options{}, "does not exist"},
		"a file in a file":                              {filepath.Join(text, "keys.db"), sqlite.Options{}, "not a directory"},
		"a folder that nobody writes to, root included": {"/proc/keys.db", sqlite.Options{}, "folder"},
		"a folder in place of the file":                 {dir, sqlite.Options{}, "is a folder"},
		"a device":                                      {os.DevNull, sqlite.Options{}, "not a regular file"},
		"a file that is something else":                 {text, sqlite.Options{}, "is not a SQLite database"},
		"a path with NUL":                               {"keys\x00.db", sqlite.Options{}, "not the path of a file"},
		"no path":                                       {"", sqlite.Options{}, "not the path of a file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := sqlite.Open(t.Context(), c.path, c.opts)
			if err == nil {
				t.Fatalf("it was opened (%v)", s.Close())
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %q, want one that says %q", err, c.want)
			}
			if !strings.ContainsRune(c.path, 0) && !strings.Contains(err.Error(), c.path) {
				t.Errorf("error = %q, which does not name %q", err, c.path)
			}
		})
	}
	if content, err := os.ReadFile(text); err != nil || !strings.HasPrefix(string(content), "this is not") {
		t.Errorf("the file that is no database was changed (%v)", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "absent.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file that must exist was created (%v)", err)
	}
}

// TestAFileOfAnotherKindKeepsItsMode: the path of a store may be mistyped. An empty file is a new
// database, and is taken from everybody else as a database is.
func TestAFileOfAnotherKindKeepsItsMode(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		content string
		opens   bool
		mode    fs.FileMode
	}{
		"a text":                            {strings.Repeat("this is not a database\n", 100), false, 0o644},
		"a text shorter than a header":      {"127.0.0.1", false, 0o644},
		"a text that begins like a header":  {"SQLite format 3 is what I wanted", false, 0o644},
		"an empty file, which is a new one": {"", true, 0o640},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "hosts")
			if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, 0o644); err != nil { // whatever the umask
				t.Fatal(err)
			}
			s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
			if c.opens != (err == nil) {
				t.Fatalf("Open = %v", err)
			}
			if err == nil {
				err = s.Close()
			}
			if !c.opens && !strings.Contains(err.Error(), "is not a SQLite database") || c.opens && err != nil {
				t.Errorf("the error is %v", err)
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != c.mode {
				t.Errorf("the mode is %v (%v), want %v", info.Mode().Perm(), err, c.mode)
			}
		})
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "keys.db"), sqlite.Options{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Open = %v, %v; want context.Canceled", s, err)
	}
}
