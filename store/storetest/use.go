package storetest

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func testUse(t *testing.T, fresh func(tb testing.TB) *Backend) {
	at := func(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"the last use moves forward and never backwards": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := create(t, s, newKey("used"))[0]
			for _, step := range []struct{ use, want int }{{20, 20}, {10, 20}, {30, 30}, {30, 30}, {29, 30}} {
				must(t, s.RecordUse(t.Context(), []store.Use{{ID: key.ID, At: at(step.use)}}))
				key.LastUsedAt = at(step.want)
				same(t, read(t, s, key.ID), key)
			}
		},
		"the latest of several uses in one batch counts": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := create(t, s, newKey("a"), newKey("b"), newKey("untouched"))
			must(t, s.RecordUse(t.Context(), []store.Use{
				{ID: keys[0].ID, At: at(1)},
				{ID: keys[1].ID, At: at(9)},
				{ID: keys[0].ID, At: at(3)},
				{ID: keys[0].ID, At: at(2)},
				{ID: keys[1].ID, At: at(8)},
			}))
			keys[0].LastUsedAt, keys[1].LastUsedAt = at(3), at(9)
			for _, key := range keys {
				same(t, read(t, s, key.ID), key)
			}
		},
		"a use is kept in UTC to the microsecond": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := create(t, s, newKey("precise"))[0]
			use := at(5).Add(789 * time.Nanosecond).In(time.FixedZone("", 3600))
			must(t, s.RecordUse(t.Context(), []store.Use{{ID: key.ID, At: use}}))
			key.LastUsedAt = at(5)
			same(t, read(t, s, key.ID), key)
		},
		"a time ahead of the store's clock is cut": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := create(t, s, newKey("fast clock"))[0]
			// Both clocks are this machine's, or nearly so.
			before := time.Now().Add(-time.Minute)
			must(t, s.RecordUse(t.Context(), []store.Use{{ID: key.ID, At: time.Now().Add(1000 * time.Hour)}}))
			got := read(t, s, key.ID).LastUsedAt
			if latest := time.Now().Add(time.Minute); got.Before(before) || got.After(latest) {
				t.Errorf("last use = %v, want about a second after now", got)
			}
		},
		"a time that says nothing is passed over": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := create(t, s, newKey("zero"), newKey("used"))
			must(t, s.RecordUse(t.Context(), []store.Use{{ID: keys[0].ID}, {ID: keys[1].ID, At: at(1)}}))
			keys[1].LastUsedAt = at(1)
			same(t, read(t, s, keys[0].ID), keys[0])
			same(t, read(t, s, keys[1].ID), keys[1])
		},
		"keys that are gone are passed over": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := create(t, s, newKey("gone"), newKey("here"))
			_, err := s.DeleteKey(t.Context(), keys[0].ID, nil)
			must(t, err)
			must(t, s.RecordUse(t.Context(), []store.Use{
				{ID: keys[0].ID, At: at(1)}, {ID: newID(), At: at(1)}, {ID: keys[1].ID, At: at(1)},
			}))
			keys[1].LastUsedAt = at(1)
			same(t, read(t, s, keys[1].ID), keys[1])
			total(t, s, 1)
		},
		"an empty batch is nothing": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			must(t, s.RecordUse(t.Context(), nil))
			must(t, s.RecordUse(t.Context(), []store.Use{}))
		},
		"ten thousand keys fit in one batch": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := create(t, s, newKey("needle"))[0]
			uses := make([]store.Use, 10000)
			for i := range uses {
				uses[i] = store.Use{ID: newID(), At: at(i)}
			}
			uses[7777].ID = key.ID
			must(t, s.RecordUse(t.Context(), uses))
			key.LastUsedAt = at(7777)
			same(t, read(t, s, key.ID), key)
		},
		"batches of several instances in any order end at the latest use": func(t *testing.T, b *Backend) {
			instances := []store.Store{migrated(t, b), migrated(t, b), migrated(t, b)}
			var keys []*store.Key
			for range 50 {
				keys = append(keys, create(t, instances[0], newKey("busy"))...)
			}
			const rounds = 20
			var group errgroup.Group
			for i, s := range instances {
				for j := range 2 {
					group.Go(func() error {
						mine := slices.Clone(keys)
						for round := range rounds {
							// Each writer has its own order, which a store that locks in the
							// order given would answer with a deadlock.
							rand.Shuffle(len(mine), func(a, b int) { mine[a], mine[b] = mine[b], mine[a] })
							var uses []store.Use
							for _, key := range mine {
								uses = append(uses, store.Use{ID: key.ID, At: at(10*((round*7)%rounds) + 2*i + j)})
							}
							if err := s.RecordUse(t.Context(), uses); err != nil {
								return err
							}
						}
						return nil
					})
				}
			}
			must(t, group.Wait())
			for _, key := range keys {
				key.LastUsedAt = at(10*(rounds-1) + 2*(len(instances)-1) + 1)
				same(t, read(t, instances[0], key.ID), key)
			}
		},
	})
}
