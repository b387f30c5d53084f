package audit_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// BenchmarkRecordSize is what an audit record of a request takes in the database, indexes
// included. The records of one key that are written together share a row, so it depends on
// how many a key makes in a second. docs/appendix/benchmark.md has the figures.
//
//	go test ./internal/audit -run '^$' -bench RecordSize -benchtime 1x
func BenchmarkRecordSize(b *testing.B) {
	for _, together := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprintf("SQLite/%d-of-a-key-a-second", together), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "keys.db")
			size := func() int64 { // of a file that is not open, so that all of it is there
				stat, err := os.Stat(path)
				if err != nil {
					b.Fatal(err)
				}
				return stat.Size()
			}
			open := func() (store.Store, error) { return sqlite.Open(b.Context(), path, sqlite.Options{}) }
			benchmarkRecordSize(b, together, open, size)
		})
		b.Run(fmt.Sprintf("PostgreSQL/%d-of-a-key-a-second", together), func(b *testing.B) {
			dsn := testenv.Database(b)
			size := func() (n int64) {
				db, err := pgx.Connect(b.Context(), dsn)
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = db.Close(context.WithoutCancel(b.Context())) }()
				if err := db.QueryRow(b.Context(), "SELECT pg_total_relation_size('sidecar.audit_log')").Scan(&n); err != nil {
					b.Fatal(err)
				}
				return n
			}
			benchmarkRecordSize(b, together, func() (store.Store, error) { return postgres.Open(b.Context(), dsn, postgres.Options{}) }, size)
		})
	}
}

func benchmarkRecordSize(b *testing.B, together int, open func() (store.Store, error), size func() int64) {
	b.Helper()
	s, err := open()
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Migrate(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	keys := make([]store.AuditKey, 40)
	for i := range keys {
		keys[i] = store.AuditKey{ID: store.ID(uuid.Must(uuid.NewV7())), Label: "Twitch Bot Key"}
	}
	const seconds = 60
	before, rounds := size(), 0
	for b.Loop() {
		if s, err = open(); err != nil {
			b.Fatal(err)
		}
		rounds++
		w := audit.Start(audit.Config{Log: s, Sealer: audit.NewSealer(secret), Logger: slog.New(slog.DiscardHandler), Now: time.Now, Interval: time.Hour})
		for range seconds {
			for i := range together * len(keys) {
				key := keys[i%len(keys)]
				w.Add(store.AuditRecord{
					Event: store.AuditUsed, At: time.Now(), Key: key,
					Actor: store.AuditActor{Type: store.ActorKey, ID: key.ID.String(), Label: key.Label},
					Request: store.AuditRequest{
						ID: uuid.NewString(), Method: "POST", Path: fmt.Sprintf("/v1/bots/%d/messages", i), Status: 201, ClientIP: "2001:db8::1",
					},
				})
			}
			if err := w.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Close(b.Context()); err != nil || w.Stats().Lost != 0 {
			b.Fatalf("%+v, %v", w.Stats(), err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	records := rounds * seconds * together * len(keys)
	b.ReportMetric(float64(size()-before)/float64(records), "B/record")
}
