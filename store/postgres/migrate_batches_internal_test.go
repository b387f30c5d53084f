package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// fillColumn adds a column that every row must have, as the comment of the migrations says.
// It counts how often a row was filled.
var fillColumn = []string{
	"ALTER TABLE {keys} ADD COLUMN fills int; ALTER TABLE {keys} ALTER COLUMN fills SET DEFAULT 1",
	inBatches + `WITH batch AS MATERIALIZED (
    SELECT id FROM {keys} WHERE id >= $1 ORDER BY id LIMIT $2 FOR NO KEY UPDATE
), filled AS (
    UPDATE {keys} k SET fills = coalesce(k.fills, 0) + 1 FROM batch
    WHERE k.id = batch.id AND (k.fills IS NULL OR k.created_by = 'bulk')
)
SELECT id FROM batch`,
	"ALTER TABLE {keys} ADD CONSTRAINT fills_are_set CHECK (fills IS NOT NULL) NOT VALID",
	withoutLocks + "ALTER TABLE {keys} VALIDATE CONSTRAINT fills_are_set",
	"ALTER TABLE {keys} ALTER COLUMN fills SET NOT NULL; ALTER TABLE {keys} DROP CONSTRAINT fills_are_set",
}

// bulkRows is how many rows there are to fill (SOAK=1: a million).
func bulkRows() int {
	if os.Getenv("SOAK") != "" {
		return 1_000_000
	}
	return 10_000
}

// bulk fills a store with keys. Their ids are numbers, and the newest one is the last.
func bulk(tb testing.TB, s *Store) {
	tb.Helper()
	_, err := s.pool.Exec(tb.Context(), "INSERT INTO system_keys (id, label, key_hash, created_by) "+
		"SELECT lpad(to_hex(i), 32, '0')::uuid, 'bulk ' || i, '$argon2id$v=19$', 'bulk' FROM generate_series(0, $1::int - 1) AS i", bulkRows())
	if err != nil {
		tb.Fatal(err)
	}
}

// load has servers of the version before read, use, make and delete keys until stop is
// called, and checks that each call is answered.
func load(tb testing.TB, s *Store) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	var group sync.WaitGroup
	work := func(what string, call func(ctx context.Context, n int) error) {
		group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				// A generous bound, which a lock that is held for a whole migration exceeds.
				bounded, done := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
				if err := call(bounded, n); err != nil {
					tb.Errorf("%s: %v", what, err)
				}
				done()
			}
		})
	}
	work("read", func(ctx context.Context, n int) error {
		_, err := s.Key(ctx, store.ID{15: byte(n)})
		return err
	})
	work("use", func(ctx context.Context, n int) error {
		return s.RecordUse(ctx, []store.Use{{ID: store.ID{15: byte(n)}, At: time.Now()}, {ID: store.ID{15: byte(n + 7)}, At: time.Now()}})
	})
	work("make and delete", func(ctx context.Context, n int) error {
		key := &store.Key{ID: store.ID{0xff, byte(n), byte(n >> 8), byte(n >> 16)}, Label: "new", Hash: "$argon2id$", CreatedAt: time.Now(), CreatedBy: "test"}
		if err := s.CreateKey(ctx, key, nil); err != nil {
			return err
		}
		if n%2 == 0 {
			return nil
		}
		_, err := s.DeleteKey(ctx, key.ID, nil)
		return err
	})
	return sync.OnceFunc(func() {
		cancel()
		group.Wait()
	})
}

// TestABackfillIsResumedAndLetsAFleetLive kills a migration in the middle of its rows, where
// another service holds one of them. Another server goes on from there.
func TestABackfillIsResumedAndLetsAFleetLive(t *testing.T) {
	t.Parallel()
	s := empty(t)
	bulk(t, s)
	stop := load(t, s)
	defer stop()
	if err := later(t, s, fillColumn[0]).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	held, err := another(t, s).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	middle := fmt.Sprintf("%032x", bulkRows()/2)
	if _, err := held.Exec(t.Context(), "SELECT FROM system_keys WHERE id = $1::uuid FOR UPDATE", middle); err != nil {
		t.Fatal(err)
	}
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	done := make(chan error, 1)
	killed := later(t, s, fillColumn...)
	go func() { done <- killed.Migrate(ctx) }()
	observer := another(t, s)
	filled := 0
	for filled < bulkRows()/2-batchRows {
		select {
		case err := <-done:
			t.Fatalf("it did not wait for the row: %v", err)
		case <-time.After(time.Millisecond):
		}
		err := observer.QueryRow(t.Context(), "SELECT coalesce(max(filled), 0) FROM sidecar.schema_batches").Scan(&filled)
		if err != nil {
			t.Fatal(err)
		}
	}
	kill()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the killed one: %v", err)
	}
	if err := held.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	var before, version int
	err = observer.QueryRow(t.Context(), "SELECT count(*), max(m.version) FROM system_keys, (SELECT max(version) AS version "+
		"FROM sidecar.schema_migrations) AS m WHERE fills = 1 AND created_by = 'bulk'").Scan(&before, &version)
	if err != nil || before == 0 || before > bulkRows()/2 || version != 2 {
		t.Errorf("%d rows are filled, the version is %d, %v", before, version, err)
	}
	resumed, log := later(t, s, fillColumn...), make(lines, 1000)
	resumed.logger = slog.New(slog.NewTextHandler(log, nil))
	if err := resumed.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	close(log)
	said := 0
	for line := range log {
		if strings.Contains(line, "rows=") && strings.Contains(line, "done=true") {
			said++
		}
	}
	if said != 1 {
		t.Errorf("the log says %d times that all rows are filled", said)
	}
	var once, rows, progress int
	err = observer.QueryRow(t.Context(), "SELECT count(*) FILTER (WHERE fills = 1), count(*), (SELECT count(*) FROM sidecar.schema_batches) "+
		"FROM system_keys").Scan(&once, &rows, &progress)
	if err != nil || once != rows || progress != 0 {
		t.Errorf("%d of %d rows were filled once (%v), and %d batches are left", once, rows, err, progress)
	}
	if _, err := observer.Exec(t.Context(), "UPDATE system_keys SET fills = NULL"); code(err) != "23502" {
		t.Errorf("the column takes NULL: %v", err)
	}
}

// TestAMigrationThatHoldsALockIsCancelled has one that is too long, as a rewrite of a large
// table would be. It never takes effect, and readers are served.
func TestAMigrationThatHoldsALockIsCancelled(t *testing.T) {
	t.Parallel()
	s := empty(t)
	bulk(t, s)
	stop := load(t, s)
	defer stop()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	newer, log := later(t, s, addColumn+"; SELECT pg_sleep(30)"), make(lines, 100)
	newer.logger = slog.New(slog.NewTextHandler(log, nil))
	done := make(chan error, 1)
	go func() { done <- newer.Migrate(ctx) }()
	select {
	case line := <-log:
		if !strings.Contains(line, queryCanceled) {
			t.Errorf("the log says %q", line)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Migrate = %v", err)
		}
	case err := <-done:
		t.Errorf("Migrate = %v, and nobody has cancelled it", err)
	}
	stop()
	if _, err := s.pool.Exec(t.Context(), "SELECT later FROM system_keys"); code(err) != "42703" {
		t.Errorf("it took effect: %v", err)
	}
}

// lines receives a log, line by line.
type lines chan string

// Write implements [io.Writer].
func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

func TestTheNextBatchBeginsBehindTheGreatestID(t *testing.T) {
	t.Parallel()
	last := store.ID{}
	for i := range last {
		last[i] = 0xff
	}
	for _, c := range []struct {
		ids  []store.ID
		next store.ID
		ok   bool
	}{
		{nil, store.ID{}, false},
		{[]store.ID{{}}, store.ID{15: 1}, true},
		{[]store.ID{{3: 1, 15: 0xff}, {2: 0xfe}, {3: 2}}, store.ID{2: 0xfe, 15: 1}, true},
		{[]store.ID{{14: 1, 15: 0xff}}, store.ID{14: 2}, true},
		{[]store.ID{{}, last}, store.ID{}, false},
	} {
		if next, ok := behind(c.ids); ok != c.ok || ok && next != c.next {
			t.Errorf("behind %v: %v, %t", c.ids, next, ok)
		}
	}
}
