package expiry_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/expiry"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// asked is a store that notes what it is asked for.
type asked struct {
	mu       sync.Mutex
	filters  []store.KeyFilter
	records  []store.AuditRecord
	left     int // expired keys
	retired  int // keys that were replaced, and have ended
	failures int // of the next calls
	counts   int
}

func (s *asked) DeleteKeys(_ context.Context, filter *store.KeyFilter, write *store.Write) (keys []*store.Key, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failures > 0 {
		s.failures--
		return nil, errors.New("down")
	}
	s.filters = append(s.filters, *filter)
	ended, left := store.Key{Label: "ended", ExpiresAt: filter.ExpiredBefore.Add(-time.Second)}, &s.left
	if filter.Retired {
		ended, left = store.Key{Label: "retired", ExpiresAt: time.Date(2026, 4, 30, 23, 0, 0, 0, time.UTC), ReplacedBy: store.ID{9}}, &s.retired
	}
	for range min(*left, filter.Limit) {
		key := ended
		if key.ID = (store.ID{byte(*left)}); *left == 1 {
			key.ReplacedBy = store.ID{9} // of each kind, the last one was replaced
		}
		record, _ := write.Records(&key)
		keys, s.records = append(keys, &key), append(s.records, record)
		*left--
	}
	return keys, nil
}

func (s *asked) Keys(_ context.Context, query *store.KeyQuery) (*store.KeyPage, error) {
	s.counts++
	if s.failures > 0 {
		return nil, errors.New("down")
	}
	return &store.KeyPage{Total: int(query.ExpiringBefore.Sub(query.LiveAt).Hours())}, nil
}

// sealer seals nothing.
type sealer struct{}

func (sealer) Seal(_ store.ID, head store.AuditMark, _ []store.AuditRecord) store.AuditMark {
	return head
}
func (sealer) Anchor(store.AuditLink) store.AuditMark { return store.AuditMark{} }

func start(t *testing.T, s *asked, now func() time.Time) *expiry.Keeper {
	t.Helper()
	k := expiry.Start(expiry.Config{
		Store: s, Sealer: sealer{}, Logger: slog.New(slog.DiscardHandler), Now: now, Name: "here", Retention: 24 * time.Hour,
	})
	t.Cleanup(k.Close)
	return k
}

func TestKeysThatHaveEndedAreDeletedUntilNoneIsLeft(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	s := &asked{left: 2500, retired: 1500}
	k := start(t, s, func() time.Time { return now })
	k.Delete()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		left, calls := s.left+s.retired, len(s.filters)
		s.mu.Unlock()
		if left == 0 && calls == 6 {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("%d are left after %d calls", left, calls)
		}
	}
	k.Close()
	for i, filter := range s.filters {
		if retired := i%2 == 0; filter.Retired != retired || filter.ExpiredBefore.Equal(now.Add(-24*time.Hour)) == retired || filter.Limit < 1 {
			t.Errorf("the filter is %+v", filter)
		}
	}
	const replaced = `,"reason":"rotated","replaced_by":"09000000-0000-0000-0000-000000000000"}`
	for i, want := range map[int]struct {
		event          store.AuditEvent
		label, details string
	}{
		0:                  {store.AuditRevoked, "retired", `{"created_at":"0001-01-01T00:00:00Z","created_by":"","expires_at":"2026-04-30T23:00:00Z"` + replaced},
		1000:               {store.AuditExpired, "ended", `{"created_at":"0001-01-01T00:00:00Z","created_by":"","expires_at":"2026-04-29T23:59:59Z"}`},
		len(s.records) - 1: {store.AuditRevoked, "ended", `{"created_at":"0001-01-01T00:00:00Z","created_by":"","expires_at":"2026-04-29T23:59:59Z"` + replaced},
	} {
		r := s.records[i]
		if r.Event != want.event || !r.At.Equal(now) || r.Actor != (store.AuditActor{Type: store.ActorServer, ID: "here"}) ||
			r.Key.Label != want.label || string(r.Details) != want.details {
			t.Errorf("the record is %+v, %s", r, r.Details)
		}
	}
}

func TestKeysAreCountedWhenSomethingChanges(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	s := &asked{}
	k := start(t, s, func() time.Time { return now })
	for _, step := range []struct {
		what     string
		rev      int64
		later    time.Duration
		failures int
		asked    int
	}{
		{"at first", 7, 0, 0, 3},
		{"again", 7, time.Minute, 0, 3},
		{"after a change", 8, 0, 0, 6},
		{"again after it", 8, 4 * time.Minute, 0, 6},
		{"when they are old", 8, time.Minute, 0, 9},
		{"when the store is down", 9, 0, 1, 10},
		{"when it is back", 9, 0, 0, 13},
	} {
		now, s.failures = now.Add(step.later), step.failures
		counts, ok := k.Expiring(step.rev)
		if ok != (step.failures == 0) || ok && !slices.Equal(counts, []int{24, 7 * 24, 30 * 24}) || s.counts != step.asked {
			t.Errorf("%s: %v, %t after %d questions", step.what, counts, ok, s.counts)
		}
	}
}
