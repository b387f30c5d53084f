package storetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// signingKey makes the key with this id.
func signingKey(id string) store.SigningKey {
	return store.SigningKey{ID: id, Public: sha256.Sum256([]byte(id))}
}

// published are the ids of the keys that are live. Their halves are checked, and
// that they are in order.
func published(tb testing.TB, s store.Store) []string {
	tb.Helper()
	keys, err := s.SigningKeys(tb.Context())
	must(tb, err)
	var ids []string
	for _, key := range keys {
		if key.Public != signingKey(key.ID).Public {
			tb.Errorf("%s has another public half", key.ID)
		}
		ids = append(ids, key.ID)
	}
	return ids
}

func wantPublished(tb testing.TB, s store.Store, want ...string) {
	tb.Helper()
	if diff := cmp.Diff(want, published(tb, s)); diff != "" {
		tb.Errorf("published keys (-want +got):\n%s", diff)
	}
}

func testSigning(t *testing.T, fresh func(tb testing.TB) *Backend) {
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"there are none at first": func(t *testing.T, b *Backend) {
			wantPublished(t, migrated(t, b))
		},
		"what one instance has published every instance reads, in the order of bytes": func(t *testing.T, b *Backend) {
			one, other := migrated(t, b), migrated(t, b)
			for _, id := range []string{"b", "_", "B", "a", "-"} {
				must(t, one.PublishSigningKey(t.Context(), signingKey(id), time.Minute))
			}
			wantPublished(t, other, "-", "B", "_", "a", "b")
		},
		"a key expires by the store's clock": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			before := time.Now()
			must(t, s.PublishSigningKey(t.Context(), signingKey("a"), time.Hour))
			keys, err := s.SigningKeys(t.Context())
			must(t, err)
			// Both clocks are this machine's, or nearly so.
			if got := keys[0].ExpiresAt.Sub(before); got < 59*time.Minute || got > 61*time.Minute {
				t.Errorf("it expires in %v, want an hour", got)
			}
			if keys[0].ExpiresAt.Location() != time.UTC {
				t.Error("the time is not in UTC")
			}
		},
		"a life can be made longer and shorter, and ended": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			var last time.Time
			for i, life := range []time.Duration{time.Minute, time.Hour, time.Second * 30} {
				must(t, s.PublishSigningKey(t.Context(), signingKey("a"), life))
				keys, err := s.SigningKeys(t.Context())
				must(t, err)
				if longer := keys[0].ExpiresAt.After(last); longer != (i < 2) {
					t.Errorf("after %v it expires at %v, before at %v", life, keys[0].ExpiresAt, last)
				}
				last = keys[0].ExpiresAt
			}
			must(t, s.PublishSigningKey(t.Context(), signingKey("b"), time.Minute))
			must(t, s.PublishSigningKey(t.Context(), signingKey("a"), 0))
			wantPublished(t, s, "b")
		},
		"a key that has expired can be published again": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			must(t, s.PublishSigningKey(t.Context(), signingKey("a"), -time.Second))
			wantPublished(t, s)
			must(t, s.PublishSigningKey(t.Context(), signingKey("a"), time.Minute))
			wantPublished(t, s, "a")
		},
		"an id stays that of its key": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			must(t, s.PublishSigningKey(t.Context(), signingKey("a"), time.Minute))
			forged := signingKey("b")
			forged.ID = "a"
			if err := s.PublishSigningKey(t.Context(), forged, time.Hour); !errors.Is(err, store.ErrConflict) {
				t.Errorf("got %v, want ErrConflict", err)
			}
			wantPublished(t, s, "a")
		},
		"instances publish at the same time": func(t *testing.T, b *Backend) {
			var group errgroup.Group
			var want []string
			for i := range 4 {
				s := migrated(t, b)
				id := fmt.Sprint(i)
				want = append(want, id)
				group.Go(func() error {
					for n := range 20 {
						// What expires at once has the instances remove each other's rows.
						if err := s.PublishSigningKey(t.Context(), signingKey(fmt.Sprintf("%s.%d", id, n)), 0); err != nil {
							return err
						}
						if err := s.PublishSigningKey(t.Context(), signingKey(id), time.Minute); err != nil {
							return err
						}
					}
					return nil
				})
			}
			must(t, group.Wait())
			wantPublished(t, migrated(t, b), want...)
		},
	})
}
