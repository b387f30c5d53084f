package audit_test

import (
	"log/slog"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// BenchmarkRecord is what the record of a request costs this process from [audit.Writer.Add]
// to the commit: processor time of user and system, so what else the machine does counts
// little. The time of a PostgreSQL server is not in it. Most requests are of few keys.
func BenchmarkRecord(b *testing.B) {
	for name, open := range map[string]func(b *testing.B) (store.Store, error){
		"SQLite": func(b *testing.B) (store.Store, error) {
			b.Helper()
			return sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "keys.db"), sqlite.Options{})
		},
		"PostgreSQL": func(b *testing.B) (store.Store, error) {
			b.Helper()
			return postgres.Open(b.Context(), testenv.Database(b), postgres.Options{})
		},
	} {
		b.Run(name, func(b *testing.B) {
			s, err := open(b)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			benchmarkRecord(b, s)
		})
	}
}

func benchmarkRecord(b *testing.B, s store.Store) {
	b.Helper()
	if err := s.Migrate(b.Context()); err != nil {
		b.Fatal(err)
	}
	keys := make([]store.AuditKey, 10)
	for i := range keys {
		keys[i] = store.AuditKey{ID: store.ID(uuid.Must(uuid.NewV7())), Label: "Twitch Bot Key"}
	}
	requests := make([]string, 1000)
	for i := range requests {
		requests[i] = uuid.NewString()
	}
	w := audit.Start(audit.Config{Log: s, Sealer: audit.NewSealer(secret), Logger: slog.New(slog.DiscardHandler), Now: time.Now})
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime(b)
	for i := range b.N {
		for w.Stats().Waiting > audit.DefaultCapacity/2 {
			time.Sleep(5 * time.Millisecond)
		}
		key := keys[i%len(keys)]
		w.Add(store.AuditRecord{
			Event: store.AuditUsed, At: time.Now(), Key: key,
			Actor: store.AuditActor{Type: store.ActorKey, ID: key.ID.String(), Label: key.Label},
			Request: store.AuditRequest{
				ID: requests[i%len(requests)], Method: "POST", Path: "/v1/bots/4711/messages", Status: 201, ClientIP: "2001:db8::1",
			},
		})
	}
	if err := w.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/1000/float64(b.N), "cpu-µs/record")
	b.StopTimer()
	whole, err := s.AuditChains(b.Context())
	if err != nil || len(whole) != 1 || whole[0].Head.Seq != int64(b.N) || w.Stats().Lost != 0 {
		b.Fatalf("of %d records the log has %+v, %+v, %v", b.N, whole, w.Stats(), err)
	}
	b.ReportMetric(float64(w.Stats().Lost), "dropped")
}

// processorTime is what this process has used so far.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
