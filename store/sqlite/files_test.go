//go:build unix

package sqlite_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// faults are what can become of the files of a running store, which is in the
// folder data. Each leaves them as they are not supposed to be.
var faults = map[string]func(file string) error{
	"deleted": os.Remove,
	"replaced by a copy": func(file string) error {
		return errors.Join(copyFile(file, file+".copy"), os.Remove(file), os.Rename(file+".copy", file))
	},
	"renamed":           func(file string) error { return os.Rename(file, file+".old") },
	"in another folder": func(file string) error { return os.Rename(filepath.Dir(file), filepath.Dir(file)+".old") },
	"under a file": func(file string) error {
		return errors.Join(os.Rename(filepath.Dir(file), filepath.Dir(file)+".old"), os.WriteFile(filepath.Dir(file), nil, 0o600))
	},
	"without its log":   func(file string) error { return os.Remove(file + "-wal") },
	"without the index": func(file string) error { return os.Remove(file + "-shm") },
	"with another log": func(file string) error {
		return errors.Join(os.Remove(file+"-wal"), os.WriteFile(file+"-wal", nil, 0o600))
	},
	"with another index": func(file string) error {
		return errors.Join(copyFile(file+"-shm", file+".x"), os.Rename(file+".x", file+"-shm"))
	},
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o600)
}

// dataFile is the path of a store's file in a folder of its own.
func dataFile(t *testing.T) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(folder, "keys.db")
}

func TestNothingIsAnsweredFromAFileThatWasReplaced(t *testing.T) {
	t.Parallel()
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := dataFile(t)
			wantReplaced(t, path, path, func() error { return fault(path) })
		})
	}
	t.Run("a link that leads elsewhere", func(t *testing.T) {
		t.Parallel()
		path := dataFile(t)
		other := dataFile(t)
		if err := errors.Join(migrated(t, path).Close(), migrated(t, other).Close()); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(t.TempDir(), "link.db")
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		wantReplaced(t, link, path, func() error { return errors.Join(os.Remove(link), os.Symlink(other, link)) })
	})
}

// wantReplaced opens a store by a name for the file, has something done to it, and
// calls what is behind an answer.
func wantReplaced(t *testing.T, name, file string, fault func() error) {
	t.Helper()
	ctx := t.Context()
	s, err := sqlite.Open(ctx, name, sqlite.Options{})
	if err == nil {
		err = s.Migrate(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	key := sample(t, s, "bot")
	feed, err := s.Follow(ctx)
	if err != nil {
		t.Fatal(err)
	}
	member := store.Member{ID: store.ID{1}, Name: "server", TTL: time.Minute}
	if err := feed.Join(ctx, &member); err != nil {
		t.Fatal(err)
	}
	turn := &store.Turn{Member: member.ID, Limit: 10}
	if view, err := feed.Renew(ctx, turn); err != nil || !view.Member {
		t.Fatalf("Renew = %+v, %v", view, err)
	}

	if err := fault(); err != nil {
		t.Fatal(err)
	}
	_, statErr := os.Stat(file + "-wal")
	for call, err := range map[string]error{
		"Wait":          feed.Wait(ctx, time.Minute), // which notices it long before its time is over
		"DeleteKey":     second(s.DeleteKey(ctx, key.ID, nil)),
		"DeleteKeys":    second(s.DeleteKeys(ctx, &store.KeyFilter{LabelPrefix: key.Label}, nil)),
		"CreateKey":     s.CreateKey(ctx, &store.Key{ID: store.ID{2}, Label: "new", Hash: key.Hash, CreatedAt: key.CreatedAt}, nil),
		"Renew":         second(feed.Renew(ctx, turn)),
		"Pull":          second(feed.Pull(ctx, turn)),
		"Join":          feed.Join(ctx, &store.Member{ID: store.ID{3}, TTL: time.Minute}),
		"Follow":        second(s.Follow(ctx)),
		"Barrier":       second(s.Barrier(ctx)),
		"Progress":      second(s.Progress(ctx, []store.ID{key.ID}, nil)),
		"Key":           second(s.Key(ctx, key.ID)),
		"Key of no row": second(s.Key(ctx, store.ID{9})),
		"Open":          second(sqlite.Open(ctx, name, sqlite.Options{})),
	} {
		if !errors.Is(err, store.ErrReplaced) {
			t.Errorf("%s = %v, want ErrReplaced", call, err)
		} else if !strings.Contains(err.Error(), filepath.Dir(name)) || !strings.Contains(err.Error(), "restart") {
			t.Errorf("%s = %q, which does not say of which file, and what to do", call, err)
		}
	}
	if err := errors.Join(feed.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	// The log that is there now may be somebody else's.
	if _, err := os.Stat(file + "-wal"); (err == nil) != (statErr == nil) {
		t.Errorf("closing has changed the folder: %v, and before %v", err, statErr)
	}
}

func second[T any](_ T, err error) error { return err }

// The look before a write is not enough: here the file goes while it is written.
func TestACommitToAFileThatIsReplacedMeanwhileIsNoAnswer(t *testing.T) {
	t.Parallel()
	path := dataFile(t)
	s := migrated(t, path)
	key := sample(t, s, "bot")
	write := &store.Write{Record: func(*store.Key) store.AuditRecord {
		if err := faults["replaced by a copy"](path); err != nil {
			t.Error(err)
		}
		return store.AuditRecord{Event: store.AuditRevoked, At: time.Now(), Actor: store.AuditActor{Type: "cli", ID: "cli"}}
	}}
	if _, err := s.DeleteKey(t.Context(), key.ID, write); !errors.Is(err, store.ErrReplaced) {
		t.Errorf("DeleteKey = %v, want ErrReplaced", err)
	}
}

// What was taken away and put back is not trusted either: this process may have
// opened the other one meanwhile.
func TestAFileThatWasPutBackNeedsARestart(t *testing.T) {
	t.Parallel()
	path := dataFile(t)
	s := migrated(t, path)
	away := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	away(path, path+".old")
	if _, err := s.Progress(t.Context(), nil, nil); !errors.Is(err, store.ErrReplaced) {
		t.Fatalf("Progress = %v, want ErrReplaced", err)
	}
	away(path+".old", path)
	if _, err := s.Progress(t.Context(), nil, nil); !errors.Is(err, store.ErrReplaced) {
		t.Errorf("Progress = %v, want ErrReplaced", err)
	}
}

// What others may do with the file that is open changes nothing.
func TestAFileThatOthersWorkOnIsTheSame(t *testing.T) {
	t.Parallel()
	path := dataFile(t)
	s := migrated(t, path)
	for _, statement := range []string{"VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA user_version = 7"} {
		db := raw(t, path)
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Barrier(t.Context()); err != nil {
			t.Errorf("after %s: %v", statement, err)
		}
	}
}

func TestOtherUsersLoseTheirRightsToTheFiles(t *testing.T) {
	t.Parallel()
	for mode, want := range map[fs.FileMode]fs.FileMode{
		0o600: 0o600, 0o644: 0o640, 0o666: 0o660, 0o604: 0o600, 0o601: 0o600, 0o777: 0o770, 0o660: 0o660,
	} {
		t.Run(fmt.Sprintf("%04o", mode), func(t *testing.T) {
			t.Parallel()
			path := dataFile(t)
			first := migrated(t, path) // which keeps -wal and -shm there
			for _, suffix := range []string{"", "-wal", "-shm"} {
				if err := os.Chmod(path+suffix, mode); err != nil {
					t.Fatal(err)
				}
			}
			var log bytes.Buffer
			s := open(t, path, sqlite.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err := errors.Join(s.Close(), first.Close()); err != nil {
				t.Fatal(err)
			}
			second := open(t, path, sqlite.Options{})
			if err := second.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, suffix := range []string{"", "-wal", "-shm"} {
				info, err := os.Stat(path + suffix)
				if err != nil {
					t.Fatal(err)
				}
				if got := info.Mode().Perm(); got != want {
					t.Errorf("%s has mode %04o, want %04o", filepath.Base(path+suffix), got, want)
				}
				line := fmt.Sprintf("file=%s mode_before=%04o", path+suffix, mode)
				if said := strings.Contains(log.String(), line); said != (mode != want) {
					t.Errorf("%s: said %v, in\n%s", suffix, said, &log)
				}
			}
			if said := strings.Contains(log.String(), "the group of the store's file can use it"); said != (mode&0o070 != 0) {
				t.Errorf("the rights of the group are reported: %v, in\n%s", said, &log)
			}
		})
	}
}

func TestAnotherUsersFileThatAllCanUseIsRefused(t *testing.T) {
	t.Parallel()
	path := foreign(t)
	if os.Geteuid() == 0 {
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err == nil {
		t.Fatalf("it was opened (%v)", s.Close())
	}
	if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "chmod o-rwx") {
		t.Errorf("error = %q, want the path and what to do", err)
	}
}

func TestANewStoreIsSaid(t *testing.T) {
	t.Parallel()
	path := dataFile(t)
	var log bytes.Buffer
	for i := range 2 {
		s := open(t, path, sqlite.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(log.String(), "a new store was made"); n != 1 || !strings.Contains(log.String(), path) {
			t.Errorf("after %d times it was said %d times, in %q", i+1, n, &log)
		}
	}
}
