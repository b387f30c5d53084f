package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestAStandbyIsNotBelieved(t *testing.T) {
	t.Parallel()
	s, server, dsn := private(t)
	key := sample(t, s, "perhaps revoked")
	digest := signIn(t, s, key)
	demote(t, server)
	s = open(t, dsn)

	for what, id := range map[string]store.ID{"a key that the standby has": key.ID, "a key that it has not": {1}} {
		if key, err := s.Key(t.Context(), id); key != nil || !errors.Is(err, store.ErrStandby) {
			t.Errorf("%s: Key = %v, %v; want nil, ErrStandby", what, key, err)
		}
	}
	if err := s.CreateKey(t.Context(), &store.Key{ID: store.ID{1}, Label: "x", Hash: hash}, nil); !errors.Is(err, store.ErrStandby) {
		t.Errorf("CreateKey = %v, want ErrStandby", err)
	}
	if _, err := s.DeleteKey(t.Context(), key.ID, nil); !errors.Is(err, store.ErrStandby) {
		t.Errorf("DeleteKey = %v, want ErrStandby", err)
	}
	if _, err := s.DeleteKey(t.Context(), store.ID{1}, nil); !errors.Is(err, store.ErrStandby) {
		t.Errorf("DeleteKey of what the standby has not = %v, want ErrStandby", err)
	}
	if err := s.RehashKey(t.Context(), key.ID, key.Hash, hash+"AAAA"); !errors.Is(err, store.ErrStandby) {
		t.Errorf("RehashKey = %v, want ErrStandby", err)
	}
	if err := s.RecordUse(t.Context(), []store.Use{{ID: key.ID, At: time.Now()}}); !errors.Is(err, store.ErrStandby) {
		t.Errorf("RecordUse = %v, want ErrStandby", err)
	}
	for what, digest := range map[string][32]byte{"a session that the standby has": digest, "one that it has not": {1}} {
		if key, err := s.Session(t.Context(), digest, time.Now()); key != nil || !errors.Is(err, store.ErrStandby) {
			t.Errorf("%s: Session = %v, %v; want nil, ErrStandby", what, key, err)
		}
	}
	for what, err := range map[string]error{
		"CreateSession": s.CreateSession(t.Context(), &store.Session{Key: key.ID, ExpiresAt: time.Now()}),
		"EndSession":    s.EndSession(t.Context(), digest),
		"SpendNonce":    s.SpendNonce(t.Context(), digest, time.Now()),
	} {
		if !errors.Is(err, store.ErrStandby) {
			t.Errorf("%s = %v, want ErrStandby", what, err)
		}
	}
}

func TestOpenNeedsNoServerAndTheStoreRecoversWithIt(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t)
	dsn := server.Database()
	server.Stop()
	s := open(t, dsn)
	down := func() {
		t.Helper()
		_, err := s.Key(t.Context(), store.ID{1})
		for _, answer := range []error{nil, store.ErrNotFound, store.ErrClosed, store.ErrStandby} {
			if errors.Is(err, answer) {
				t.Errorf("Key without a server = %v", err)
			}
		}
	}
	down()
	if err := s.Migrate(t.Context()); err == nil {
		t.Error("Migrate succeeded without a server")
	}
	server.Start()
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := sample(t, s, "survivor")
	server.Kill()
	down()
	server.Start()
	if _, err := s.Key(t.Context(), key.ID); err != nil {
		t.Errorf("Key after the server came back: %v", err)
	}
}

func TestWaitingForAnotherServicesLockEndsWithTheContext(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	key := sample(t, s, "wanted")
	other := connect(t, dsn)
	if _, err := other.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(t.Context(), "SELECT FROM system_keys FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Key(t.Context(), key.ID); err != nil {
		t.Errorf("a reader waits for a writer: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.DeleteKey(ctx, key.ID, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("DeleteKey = %v, want context.DeadlineExceeded", err)
	}
	if _, err := other.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	// The server may have granted the lock to the call that was given up.
	if _, err := s.DeleteKey(t.Context(), key.ID, nil); err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Errorf("DeleteKey after the lock was released: %v", err)
	}
	if _, err := s.Key(t.Context(), key.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Key = %v, want ErrNotFound", err)
	}
}

func TestALongTransactionOfAnotherServiceHoldsUpNoOtherKey(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	held, free := sample(t, s, "held"), sample(t, s, "free")
	other := connect(t, dsn)
	for _, statement := range []string{
		"BEGIN", "DELETE FROM system_keys WHERE label = 'held'",
		"INSERT INTO system_keys (id, label, key_hash) VALUES (gen_random_uuid(), 'theirs', '" + hash + "')",
	} {
		if _, err := other.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.DeleteKey(t.Context(), free.ID, nil); err != nil {
		t.Errorf("DeleteKey beside a long transaction: %v", err)
	}
	sample(t, s, "ours")
	found(t, s, "", 2) // held, ours
	if _, err := other.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	found(t, s, "", 2) // theirs, ours
	if _, err := s.Key(t.Context(), held.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Key of what the other service deleted = %v, want ErrNotFound", err)
	}
}

// The circle: the other service has b and wants a, the batch has a and wants b.
// The server undoes whichever finds out first; the batch must get through.
func TestABatchSurvivesADeadlockWithAnotherService(t *testing.T) {
	t.Parallel()
	s, dsn := migrated(t)
	a, b := sample(t, s, "a"), sample(t, s, "b")
	other, observer := connect(t, dsn), connect(t, dsn)
	lock := "SELECT FROM system_keys WHERE label = $1 FOR UPDATE"
	if _, err := other.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(t.Context(), lock, "b"); err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC().Truncate(time.Second)
	done := make(chan error, 1)
	go func() { done <- s.RecordUse(t.Context(), []store.Use{{ID: b.ID, At: at}, {ID: a.ID, At: at}}) }()
	for waiting := false; !waiting; {
		err := observer.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_activity "+
			"WHERE datname = current_database() AND wait_event_type = 'Lock')").Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := other.Exec(t.Context(), lock, "a")
	t.Logf("the other service's second lock: %v", err) // either end is right
	if _, err := other.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("RecordUse = %v", err)
	}
	for _, key := range []*store.Key{a, b} {
		if got, err := s.Key(t.Context(), key.ID); err != nil || !got.LastUsedAt.Equal(at) {
			t.Errorf("%s: last use = %v (%v), want %v", key.Label, got.LastUsedAt, err, at)
		}
	}
}
