package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// deleteVariable makes this test binary a second process, which deletes every
// key in the file that the variable names.
const deleteVariable = "SQLITE_TEST_DELETE_ALL"

func TestMain(m *testing.M) {
	if path := os.Getenv(deleteVariable); path != "" {
		if err := deleteAll(context.Background(), path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func deleteAll(ctx context.Context, path string) error {
	s, err := sqlite.Open(ctx, path, sqlite.Options{MustExist: true, SameOwner: true})
	if err != nil {
		return err
	}
	page, err := s.Keys(ctx, &store.KeyQuery{Limit: store.MaxLimit, Sort: store.SortLabel})
	if err != nil {
		return err
	}
	for i := range page.Keys {
		if _, err := s.DeleteKey(ctx, page.Keys[i].ID, nil); err != nil {
			return err
		}
	}
	return s.Close()
}

// sample creates a key and returns it.
func sample(tb testing.TB, s store.Store, label string) *store.Key {
	tb.Helper()
	key := &store.Key{
		Label: label, Hash: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA", Permissions: []string{},
		CreatedAt: time.UnixMicro(1_800_000_000_000_000).UTC(), CreatedBy: "test",
	}
	copy(key.ID[:], label)
	if err := s.CreateKey(tb.Context(), key, nil); err != nil {
		tb.Fatal(err)
	}
	return key
}

func migrated(tb testing.TB, path string) *sqlite.Store {
	tb.Helper()
	s := open(tb, path, sqlite.Options{})
	if err := s.Migrate(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestAnotherProcessCanWorkOnTheFileOfARunningStore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.db")
	s := migrated(t, path)
	key := sample(t, s, "revoked from the command line")
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), deleteVariable+"="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := s.Key(t.Context(), key.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Key after the other process deleted it = %v, want ErrNotFound", err)
	}
	sample(t, s, "still writable")
}

func TestPlainSQLKeepsTotalsAndSearchRight(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.db")
	s := migrated(t, path)
	for i := range 5 {
		sample(t, s, fmt.Sprintf("worker %d", i))
	}
	check := func(what, search string, want int) {
		t.Helper()
		page, err := s.Keys(t.Context(), &store.KeyQuery{Limit: 100, Sort: store.SortLabel, Search: search})
		if err != nil {
			t.Fatal(err)
		}
		if page.Total != want || len(page.Keys) != want {
			t.Errorf("%s: search %q finds %d and counts %d, want %d", what, search, len(page.Keys), page.Total, want)
		}
	}
	db := raw(t, path)
	for _, step := range []struct {
		statement    string
		workers, all int
	}{
		{"DELETE FROM system_keys WHERE label = 'worker 0'", 4, 4},
		{"UPDATE system_keys SET label = 'reader' WHERE label = 'worker 1'", 3, 4},
		{"BEGIN; DELETE FROM system_keys; ROLLBACK", 3, 4},
		{"INSERT INTO system_keys (id, label, key_hash) " +
			"VALUES ('01234567-89ab-7def-8123-456789abcdef', 'Worker 9', '$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g')", 4, 5},
		{"UPDATE system_keys SET last_used_at = 1", 4, 5},
		{"DELETE FROM system_keys", 0, 0},
	} {
		if _, err := db.ExecContext(t.Context(), step.statement); err != nil {
			t.Fatal(err)
		}
		check(step.statement, "WORKER", step.workers)
		check(step.statement, "", step.all)
	}
	if _, err := db.ExecContext(t.Context(), "INSERT INTO label_search (label_search, rank) VALUES ('integrity-check', 1)"); err != nil {
		t.Errorf("the index of labels differs from the labels: %v", err)
	}
}

func TestWaitingForAnotherProgramsLockEndsWithTheContext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.db")
	s := migrated(t, path)
	key := sample(t, s, "wanted")
	db := raw(t, path)
	if _, err := db.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Key(t.Context(), key.ID); err != nil {
		t.Errorf("a reader waits for a writer: %v", err)
	}
	// Well before the busy timeout, at whose end the error would be another.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.DeleteKey(ctx, key.ID, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("DeleteKey = %v, want context.DeadlineExceeded", err)
	}
	if _, err := db.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeleteKey(t.Context(), key.ID, nil); err != nil {
		t.Errorf("DeleteKey after the lock was released: %v", err)
	}
}
