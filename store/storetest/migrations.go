package storetest

import (
	"net/netip"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func testMigrations(t *testing.T, fresh func(tb testing.TB) *Backend) {
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"eight instances at once migrate once and share one mint key": func(t *testing.T, b *Backend) {
			const instances = 8
			var keys [instances]store.MintKey
			var group errgroup.Group
			for i := range instances {
				s := open(t, b)
				group.Go(func() (err error) {
					if err = s.Migrate(t.Context()); err == nil {
						keys[i], err = s.MintKey(t.Context())
					}
					return err
				})
			}
			must(t, group.Wait())
			if keys[0] == (store.MintKey{}) {
				t.Error("the mint key is all zeros")
			}
			for i := range keys {
				if keys[i] != keys[0] {
					t.Errorf("instance %d has another mint key than instance 0", i)
				}
			}
		},
		"two places have different mint keys": func(t *testing.T, b *Backend) {
			one, err := migrated(t, b).MintKey(t.Context())
			must(t, err)
			other, err := migrated(t, fresh(t)).MintKey(t.Context())
			must(t, err)
			if one == other {
				t.Error("the mint keys are equal")
			}
		},
		"migrating and reopening change nothing": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := create(t, s, newKey("kept"))[0]
			before, err := s.MintKey(t.Context())
			must(t, err)
			must(t, s.Migrate(t.Context()))
			must(t, s.Close())

			again := migrated(t, b)
			after, err := again.MintKey(t.Context())
			must(t, err)
			if before != after {
				t.Error("the mint key changed")
			}
			same(t, read(t, again, key.ID), key)
		},
		"a schema from a newer program is refused and left alone": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := create(t, s, newKey("from the future"))[0]
			b.Outdate(t)
			for range 2 {
				if err := open(t, b).Migrate(t.Context()); err == nil {
					t.Fatal("migrating a newer schema succeeded")
				}
			}
			same(t, read(t, s, key.ID), key)
		},
		"an inspection finds no schema, a sound one, and one of a newer program": func(t *testing.T, b *Backend) {
			inspect := func() *store.Inspection {
				found, err := open(t, b).Inspect(t.Context())
				must(t, err)
				return found
			}
			if found := inspect(); found.Version != 0 || found.Newest == 0 {
				t.Errorf("without a schema: %+v", found)
			}
			migrated(t, b)
			if found := inspect(); found.Version != found.Newest || len(found.Triggers)+len(found.Lacking) != 0 || found.Bound || found.Now.IsZero() {
				t.Errorf("of a sound schema: %+v", found)
			}
			bound := newKey("bound")
			bound.Networks = store.Networks{netip.MustParsePrefix("192.0.2.0/24")}
			create(t, open(t, b), bound)
			if found := inspect(); !found.Bound {
				t.Errorf("of a store with a key for some networks: %+v", found)
			}
			b.Outdate(t)
			if found := inspect(); found.Version <= found.Newest {
				t.Errorf("of a newer schema: %+v", found)
			}
		},
		"without a schema every call is an error that is none of the answers": func(t *testing.T, b *Backend) {
			s := open(t, b)
			for name, call := range calls(newKey("nowhere")) {
				if name == "Migrate" || name == "RecordUse of nothing" {
					continue // they need no schema
				}
				refusedWithoutAnswer(t, name, call(t.Context(), s))
			}
		},
	})
}
