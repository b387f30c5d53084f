package sqlite

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestConnectionsAreSetUpForDurabilityAndSharing(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "keys.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	const full = "2"
	for pragma, want := range map[string]string{
		"synchronous": full, "journal_mode": "wal", "locking_mode": "normal", "busy_timeout": "5000", "foreign_keys": "1",
	} {
		var got string
		if err := s.writer.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s = %s, want %s", pragma, got, want)
		}
	}
	if _, err := s.readers.ExecContext(t.Context(), "CREATE TABLE t (n)"); err == nil {
		t.Error("a reader's connection can write")
	}
}

func TestAUseIsCutToASecondAheadOfTheClock(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "keys.db"), Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := &store.Key{ID: store.ID{1}, Label: "x", Hash: "$argon2id$x", CreatedAt: now}
	if err := s.CreateKey(t.Context(), key, nil); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ ahead, want time.Duration }{
		{999 * time.Millisecond, 999 * time.Millisecond}, {time.Second, time.Second}, {time.Hour, time.Second},
	} {
		if err := s.RecordUse(t.Context(), []store.Use{{ID: key.ID, At: now.Add(step.ahead)}}); err != nil {
			t.Fatal(err)
		}
		got, err := s.Key(t.Context(), key.ID)
		if err != nil {
			t.Fatal(err)
		}
		if want := now.Add(step.want); !got.LastUsedAt.Equal(want) {
			t.Errorf("a use %v ahead is kept as %v, want %v", step.ahead, got.LastUsedAt, want)
		}
	}
}
