package engine_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
)

// An expired key goes once its time is over, by one of the instances, and has one record. A
// key that has expired since stays, unless it was replaced.
func TestExpiredKeysAreDeletedOnceInAFleet(t *testing.T) {
	t.Parallel()
	dsn := testenv.Database(t)
	var s store.Store
	for range 3 {
		config := configOf(func(ctx context.Context) (store.Store, error) {
			return postgres.Open(context.WithoutCancel(ctx), dsn, postgres.Options{})
		})
		config.Lease, config.AuditRetention, config.ExpiredRetention = time.Second, time.Hour, time.Hour
		e := newEngine(t, config)
		defer func() { _ = e.Close() }()
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		l, err := e.Live()
		if err != nil {
			t.Fatal(err)
		}
		s = l.Store
	}
	create := func(label string, ago time.Duration, replacedBy store.ID) store.ID {
		key := &store.Key{
			ID: store.ID(uuid.New()), Label: label, Permissions: []string{}, CreatedBy: "test",
			Hash:      "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
			CreatedAt: time.Now().Add(-48 * time.Hour), ExpiresAt: time.Now().Add(-ago), ReplacedBy: replacedBy,
		}
		if err := s.CreateKey(t.Context(), key, nil); err != nil {
			t.Fatal(err)
		}
		return key.ID
	}
	kept := create("kept", time.Minute, store.ID{})
	gone := make(map[store.ID]store.AuditEvent)
	for range 50 {
		gone[create("gone", 2*time.Hour, store.ID{})] = store.AuditExpired
		gone[create("retired", time.Minute, kept)] = store.AuditRevoked
	}
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		page, err := s.Keys(t.Context(), &store.KeyQuery{Limit: 1, Sort: store.SortLabel})
		if err != nil {
			t.Fatal(err)
		}
		if page.Total == 1 {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("%d keys are left", page.Total)
		}
	}
	if _, err := s.Key(t.Context(), kept); err != nil {
		t.Errorf("the key that is kept: %v", err)
	}
	for id, event := range gone {
		page, err := s.Audit(t.Context(), &store.AuditQuery{Limit: 10, Key: id})
		if err != nil || len(page.Records) != 1 || page.Records[0].Event != event || page.Records[0].Link.Seq == 0 {
			t.Fatalf("the log has %+v, %v", page, err)
		}
		if _, err := s.Key(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%v", err)
		}
	}
}
