package storetest

import (
	"errors"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func testAdding(t *testing.T, fresh func(tb testing.TB) *Backend) {
	foreign := func(label string) store.Key {
		key := *newKey(label)
		key.Foreign = true
		return key
	}
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"keys are added beside others, in batches": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			mine, one, two := newKey("mine"), foreign("one"), foreign("two")
			create(t, s, mine)
			must(t, s.AddKeys(t.Context(), func(add func([]store.Key) error) error {
				return errors.Join(add([]store.Key{one}), add([]store.Key{two}))
			}))
			total(t, s, 3)
			for _, want := range []*store.Key{mine, &one, &two} {
				same(t, read(t, s, want.ID), want)
			}
		},
		"an error leaves none of them": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			broken := errors.New("the line is cut")
			err := s.AddKeys(t.Context(), func(add func([]store.Key) error) error {
				return errors.Join(add([]store.Key{foreign("one")}), broken)
			})
			if !errors.Is(err, broken) {
				t.Errorf("AddKeys = %v, want the error of what fills it", err)
			}
			total(t, s, 0)
		},
		"an id that is taken is a conflict, and leaves none": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			taken := newKey("mine")
			create(t, s, taken)
			again := foreign("again")
			again.ID = taken.ID
			err := s.AddKeys(t.Context(), func(add func([]store.Key) error) error {
				must(t, add([]store.Key{foreign("one")}))
				return add([]store.Key{again})
			})
			if !errors.Is(err, store.ErrConflict) {
				t.Errorf("AddKeys = %v, want ErrConflict", err)
			}
			total(t, s, 1)
			same(t, read(t, s, taken.ID), taken)
		},
		"no audit record is written, as for an insert by SQL": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			must(t, s.AddKeys(t.Context(), func(add func([]store.Key) error) error { return add([]store.Key{foreign("one")}) }))
			page, err := s.Audit(t.Context(), &store.AuditQuery{Limit: 10})
			must(t, err)
			if len(page.Records) != 0 {
				t.Errorf("%d records", len(page.Records))
			}
		},
		"known are keys that are there, and ids that were revoked": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			there, gone, silent, never, back := newKey("there"), newKey("gone"), newKey("gone by SQL"), newKey("never"), newKey("back")
			create(t, s, there, gone, silent, back, newKey("not asked for"))
			for _, key := range []*store.Key{gone, back} {
				_, err := s.DeleteKey(t.Context(), key.ID, recorded(store.AuditRevoked, nil))
				must(t, err)
			}
			create(t, s, back)
			b.Exec(t, "DELETE FROM system_keys WHERE id = '"+silent.ID.String()+"'")
			keys, revoked, err := s.KnownKeys(t.Context(), []store.ID{there.ID, gone.ID, silent.ID, never.ID, back.ID})
			must(t, err)
			if len(keys) == 2 && keys[0].ID == back.ID {
				keys[0], keys[1] = keys[1], keys[0]
			}
			if len(keys) != 2 {
				t.Fatalf("%d keys are there", len(keys))
			}
			same(t, &keys[0], there)
			same(t, &keys[1], back)
			if len(revoked) != 3 {
				t.Errorf("revoked are %v", revoked)
			}
			for _, id := range revoked {
				if id != gone.ID && id != silent.ID && id != back.ID {
					t.Errorf("%v was never revoked", id)
				}
			}
			keys, revoked, err = s.KnownKeys(t.Context(), nil)
			must(t, err)
			if len(keys)+len(revoked) != 0 {
				t.Errorf("of none there are %v, %v", keys, revoked)
			}
		},
		"any number of ids can be asked for": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			there := newKey("there")
			create(t, s, there)
			ids := make([]store.ID, 70_000, 70_001) // more than a statement may have placeholders
			for i := range ids {
				ids[i] = newID()
			}
			keys, revoked, err := s.KnownKeys(t.Context(), append(ids, there.ID))
			must(t, err)
			if len(keys) != 1 || keys[0].ID != there.ID || len(revoked) != 0 {
				t.Errorf("%d keys are there, and %d revoked", len(keys), len(revoked))
			}
		},
	})
}
