package audit_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// stores are empty ones of both kinds.
func stores(t *testing.T) map[string]store.Store {
	t.Helper()
	file, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "keys.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server, err := postgres.Open(t.Context(), testenv.Database(t), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	both := map[string]store.Store{"sqlite": file, "postgres": server}
	for _, s := range both {
		t.Cleanup(func() { _ = s.Close() })
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return both
}

// TestTheKeeperSealsAndPrunes leaves a record of the command line unsealed, and
// old ones behind, and looks at what the log is like afterwards.
func TestTheKeeperSealsAndPrunes(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			sealer := audit.NewSealer(secret)
			chain := store.ID{7}
			now := time.Now()
			for _, age := range []time.Duration{100 * time.Hour, 99 * time.Hour, 98 * time.Hour, time.Hour, time.Minute} {
				r := sample(1)
				r.ID, r.At = store.NewAuditID(now.Add(-age)), now.Add(-age).UTC().Truncate(time.Microsecond)
				if err := s.AppendAudit(t.Context(), chain, []store.AuditRecord{r}, sealer); err != nil {
					t.Fatal(err)
				}
			}
			unsealed := store.AuditRecord{Event: store.AuditCreated, At: now, Actor: store.AuditActor{Type: store.ActorCLI, ID: "cli"}}.Clean()
			if err := s.AppendAudit(t.Context(), store.SharedChain, []store.AuditRecord{unsealed}, nil); err != nil {
				t.Fatal(err)
			}
			k := audit.Keep(audit.Config{
				Log: s, Sealer: sealer, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
			}, 72*time.Hour)
			defer k.Close()
			k.Seal()
			deadline := time.Now().Add(30 * time.Second)
			for {
				page, err := s.Audit(t.Context(), &store.AuditQuery{Limit: 100})
				if err != nil {
					t.Fatal(err)
				}
				waiting, _, err := s.AuditUnsealed(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if page.Total == 3 && waiting == 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%d records are left, %d of them not sealed", page.Total, waiting)
				}
				time.Sleep(10 * time.Millisecond)
			}
			report, err := audit.Verify(t.Context(), s, [][]byte{secret})
			if err != nil || !report.OK(true) {
				t.Errorf("the log does not verify: %+v, %v", report, err)
			}
			for _, c := range report.Chains {
				if c.ID == chain && (c.First != 4 || c.Last != 5) {
					t.Errorf("the chain is %+v", c)
				}
			}
		})
	}
}

// TestAWriterOnRealStores writes several batches, and has the chain checked as it
// comes back from the store: not a byte of a record may be another.
func TestAWriterOnRealStores(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			w := audit.Start(audit.Config{
				Log: s, Sealer: audit.NewSealer(secret), Logger: slog.New(slog.DiscardHandler), Now: time.Now, Name: "here",
			})
			for i := range 5000 {
				r := sample(i)
				r.ID = store.ID{}
				w.Add(r)
			}
			if err := w.Close(context.WithoutCancel(t.Context())); err != nil {
				t.Fatal(err)
			}
			report, err := audit.Verify(t.Context(), s, [][]byte{secret})
			if err != nil || !report.OK(true) || report.Chains[0].Last != 5000 {
				t.Errorf("the log does not verify: %+v, %v", report, err)
			}
		})
	}
}
