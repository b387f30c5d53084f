package storetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func testCancellation(t *testing.T, fresh func(tb testing.TB) *Backend) {
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"a context that is over ends every call and changes nothing": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := create(t, s, newKey("steady"))[0]
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			for name, call := range calls(key) {
				if err := call(ctx, s); !errors.Is(err, context.Canceled) {
					t.Errorf("%s = %v, want context.Canceled", name, err)
				}
			}
			same(t, read(t, s, key.ID), key)
			total(t, s, 1)
		},
		"contexts that end at any moment leave the store whole": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			kept := create(t, s, newKey("kept"))[0]
			var group errgroup.Group
			for range 4 {
				group.Go(func() error {
					for range 40 {
						ctx, cancel := context.WithTimeout(t.Context(), rand.N(4*time.Millisecond))
						key := newKey("maybe")
						err := s.CreateKey(ctx, key, nil)
						if err == nil {
							_, err = s.DeleteKey(ctx, key.ID, nil)
						}
						cancel()
						if err != nil && !errors.Is(err, context.DeadlineExceeded) {
							return err
						}
					}
					return nil
				})
			}
			must(t, group.Wait())
			same(t, read(t, s, kept.ID), kept)
			// What was created and not deleted is there, and counted.
			list := all(t, s, store.KeyQuery{Limit: 100, Sort: store.SortCreatedAt})
			total(t, s, len(list))
			for i := range list {
				_, err := s.DeleteKey(t.Context(), list[i].ID, nil)
				must(t, err)
			}
			total(t, s, 0)
		},
	})
}
