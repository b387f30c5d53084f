package admin_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// batch is how many keys are revoked at once.
const batch = 30

// workOnMany creates keys with one prefix, and revokes them at once, for ever.
func workOnMany(ctx context.Context, service *admin.Service, reached func(moment string)) {
	for n := 0; ; n++ {
		prefix := uuid.NewString()
		for range batch {
			if _, _, err := service.Create(ctx, admin.CLI(), admin.NewKey{Label: prefix}); err != nil {
				panic(err)
			}
		}
		if n > 0 { // so each process has revoked a batch before
			reached(atMany)
		}
		if _, err := service.RevokeMany(ctx, admin.CLI(), &store.KeyFilter{LabelPrefix: prefix}); err != nil {
			panic(err)
		}
	}
}

// TestManyKeysEndTogetherOrNotAtAll kills processes that revoke many keys at once, and
// looks for a batch of which some are gone.
func TestManyKeysEndTogetherOrNotAtAll(t *testing.T) {
	t.Parallel()
	kills := 20 // on each store
	if os.Getenv("SOAK") != "" {
		kills = 200
	}
	for name, dsn := range map[string]string{
		"sqlite": filepath.Join(t.TempDir(), "keys.db"), "postgres": testenv.Database(t),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := openStore(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			if err := s.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			for range kills {
				if err := killOne(os.Args[0], dsn, atMany); err != nil {
					t.Fatal(err)
				}
			}
			compareWithLog(t, s, kills)
			created, revoked := batches(t, s, store.AuditCreated), batches(t, s, store.AuditRevoked)
			for prefix, n := range revoked {
				if n != created[prefix] || n != batch {
					t.Errorf("of a batch of %d keys %d were revoked", created[prefix], n)
				}
			}
			t.Logf("%d of %d batches were revoked", len(revoked), len(created))
		})
	}
}

// batches counts the records of an event by label.
func batches(t *testing.T, s store.Store, event store.AuditEvent) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for query := (store.AuditQuery{Limit: store.MaxAuditLimit, Event: event}); ; {
		page, err := s.Audit(t.Context(), &query)
		if err != nil {
			t.Fatal(err)
		}
		for i := range page.Records {
			counts[page.Records[i].Key.Label]++
		}
		if query.Before = page.Next; page.Next == (store.ID{}) {
			return counts
		}
	}
}
