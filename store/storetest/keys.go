package storetest

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// same compares keys exactly, hashes and locations of times included.
func same(tb reporter, got, want *store.Key) {
	tb.Helper()
	if got.Hash != want.Hash {
		tb.Errorf("key %s has another hash", want.ID)
	}
	for _, at := range []time.Time{got.CreatedAt, got.ExpiresAt, got.LastUsedAt} {
		if at.Location() != time.UTC {
			tb.Errorf("%v is not in UTC", at)
		}
	}
	if reflect.DeepEqual(want, got) {
		return // to find out by cmp takes long, for a thousand
	}
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("key differs (-want +got):\n%s", diff)
	}
}

// withoutHash is what lists and deletions return of a key.
func withoutHash(key *store.Key) *store.Key {
	bare := *key
	bare.Hash = ""
	return &bare
}

func testKeys(t *testing.T, fresh func(tb testing.TB) *Backend) {
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"a key with every field comes back as it was": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := newKey("nightly import")
			key.Permissions = []string{"bots:read", "bots:write", "system-keys:read"}
			key.IsSystem = true
			key.Networks = networks(t, "10.0.0.0/8", "192.0.2.7", "2001:db8::/32")
			key.ExpiresAt = epoch.Add(24*time.Hour + time.Microsecond)
			key.LastUsedAt = epoch.Add(time.Hour - time.Microsecond)
			key.Replaces, key.ReplacedBy, key.Ancestors = newID(), newID(), []store.ID{newID(), newID()}
			key.PlannedExpiry, key.Grace = epoch.Add(48*time.Hour), 1500*time.Millisecond
			create(t, s, key)
			same(t, read(t, s, key.ID), key)
			if page := one(t, s, &store.KeyQuery{Limit: 1, Sort: store.SortLabel}); len(page.Keys) == 1 {
				same(t, &page.Keys[0], withoutHash(key))
			} else {
				t.Errorf("the list has %d keys, want 1", len(page.Keys))
			}
		},
		"a key with no optional field comes back without them": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := newKey("bare")
			key.Permissions = nil
			create(t, s, key)
			key.Permissions = []string{}
			same(t, read(t, s, key.ID), key)
		},
		"times are kept in UTC to the microsecond": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := newKey("clock")
			zone := time.FixedZone("", -7*3600)
			key.CreatedAt = time.Date(2026, 5, 6, 7, 8, 9, 123456789, zone)
			key.ExpiresAt = time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)
			create(t, s, key)
			key.CreatedAt = time.Date(2026, 5, 6, 14, 8, 9, 123456000, time.UTC)
			key.ExpiresAt = time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
			same(t, read(t, s, key.ID), key)
		},
		"an unknown id is not found": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			create(t, s, newKey("another"))
			key, err := s.Key(t.Context(), newID())
			if key != nil || !errors.Is(err, store.ErrNotFound) {
				t.Errorf("Key = %v, %v; want nil, ErrNotFound", key, err)
			}
		},
		"an id that is taken is a conflict and keeps its key": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			first := create(t, s, newKey("first"))[0]
			second := newKey("second")
			second.ID = first.ID
			if err := s.CreateKey(t.Context(), second, nil); !errors.Is(err, store.ErrConflict) {
				t.Errorf("CreateKey = %v, want ErrConflict", err)
			}
			same(t, read(t, s, first.ID), first)
			total(t, s, 1)
		},
		"what one instance writes another reads at once": func(t *testing.T, b *Backend) {
			one, other := migrated(t, b), migrated(t, b)
			key := create(t, one, newKey("shared"))[0]
			same(t, read(t, other, key.ID), key)
			_, err := one.DeleteKey(t.Context(), key.ID, nil)
			must(t, err)
			if _, err := other.Key(t.Context(), key.ID); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("Key after the deletion = %v, want ErrNotFound", err)
			}
		},
		"a deletion returns the key and the next finds none": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := newKey("doomed")
			key.Permissions = []string{"bots:read"}
			key.LastUsedAt = epoch.Add(time.Minute)
			create(t, s, key)
			deleted, err := s.DeleteKey(t.Context(), key.ID, nil)
			must(t, err)
			same(t, deleted, withoutHash(key))
			deleted, err = s.DeleteKey(t.Context(), key.ID, nil)
			if deleted != nil || !errors.Is(err, store.ErrNotFound) {
				t.Errorf("the second DeleteKey = %v, %v; want nil, ErrNotFound", deleted, err)
			}
			total(t, s, 0)
		},
		"of concurrent deletions of one key one succeeds": func(t *testing.T, b *Backend) {
			s, other := migrated(t, b), migrated(t, b)
			key := create(t, s, newKey("wanted"))[0]
			var group errgroup.Group
			won := make(chan struct{}, 8)
			for i := range cap(won) {
				instance := []store.Store{s, other}[i%2]
				group.Go(func() error {
					_, err := instance.DeleteKey(t.Context(), key.ID, nil)
					if err == nil {
						won <- struct{}{}
					} else if !errors.Is(err, store.ErrNotFound) {
						return err
					}
					return nil
				})
			}
			must(t, group.Wait())
			if len(won) != 1 {
				t.Errorf("%d deletions succeeded, want 1", len(won))
			}
		},
		"instances that create at once create them all": func(t *testing.T, b *Backend) {
			instances := []store.Store{migrated(t, b), migrated(t, b), migrated(t, b)}
			var group errgroup.Group
			for _, s := range instances {
				for range 4 {
					group.Go(func() error {
						for range 5 {
							if err := s.CreateKey(t.Context(), newKey("one of many"), nil); err != nil {
								return err
							}
						}
						return nil
					})
				}
			}
			must(t, group.Wait())
			total(t, instances[0], 60)
		},
	})
}

// networks are those that a person writes like this.
func networks(tb testing.TB, texts ...string) store.Networks {
	tb.Helper()
	read, err := store.ParseNetworks(texts)
	must(tb, err)
	return read
}

// total checks how many keys a list without filters counts.
func total(tb reporter, s store.Store, want int) {
	tb.Helper()
	if got := one(tb, s, &store.KeyQuery{Limit: 1, Sort: store.SortCreatedAt}).Total; got != want {
		tb.Errorf("total = %d, want %d", got, want)
	}
}
