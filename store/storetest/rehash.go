package storetest

import (
	"errors"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func testRehash(t *testing.T, fresh func(tb testing.TB) *Backend) {
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"a rehash changes the hash and nothing else": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := newKey("old parameters")
			key.Permissions = []string{"bots:read"}
			bystander := create(t, s, key, newKey("bystander"))[1]
			renewed := newHash()
			must(t, s.RehashKey(t.Context(), key.ID, key.Hash, renewed))
			key.Hash = renewed
			same(t, read(t, s, key.ID), key)
			same(t, read(t, s, bystander.ID), bystander)
		},
		"a hash that changed meanwhile is a conflict": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := create(t, s, newKey("raced"))[0]
			if err := s.RehashKey(t.Context(), key.ID, newHash(), newHash()); !errors.Is(err, store.ErrConflict) {
				t.Errorf("RehashKey = %v, want ErrConflict", err)
			}
			same(t, read(t, s, key.ID), key)
		},
		"a key that is gone is not found and does not come back": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := create(t, s, newKey("gone"))[0]
			_, err := s.DeleteKey(t.Context(), key.ID, nil)
			must(t, err)
			if err := s.RehashKey(t.Context(), key.ID, key.Hash, newHash()); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("RehashKey = %v, want ErrNotFound", err)
			}
			total(t, s, 0)
		},
		"of concurrent rehashes one wins": func(t *testing.T, b *Backend) {
			one, other := migrated(t, b), migrated(t, b)
			key := create(t, one, newKey("popular"))[0]
			won := make(chan store.Hash, 8)
			var group errgroup.Group
			for i := range cap(won) {
				s := []store.Store{one, other}[i%2]
				group.Go(func() error {
					renewed := newHash()
					err := s.RehashKey(t.Context(), key.ID, key.Hash, renewed)
					if err == nil {
						won <- renewed
					} else if !errors.Is(err, store.ErrConflict) {
						return err
					}
					return nil
				})
			}
			must(t, group.Wait())
			if len(won) != 1 {
				t.Fatalf("%d rehashes won, want 1", len(won))
			}
			if read(t, one, key.ID).Hash != <-won {
				t.Error("the stored hash is not the winner's")
			}
		},
	})
}
