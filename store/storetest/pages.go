package storetest

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/store"
)

var sorts = []store.SortField{store.SortCreatedAt, store.SortLabel, store.SortLastUsedAt, store.SortExpiresAt, store.SortPermissions}

// foldASCII is lower case for A to Z alone.
func foldASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

// compare orders keys as a list by this field does.
func compare(by store.SortField, a, b *store.Key) int {
	var c int
	switch by {
	case store.SortLabel:
		c = cmp.Compare(foldASCII(a.Label), foldASCII(b.Label))
	case store.SortLastUsedAt:
		c = a.LastUsedAt.Compare(b.LastUsedAt)
	case store.SortExpiresAt:
		c = ending(a).Compare(ending(b))
	case store.SortCreatedAt:
		c = a.CreatedAt.Compare(b.CreatedAt)
	case store.SortPermissions:
		c = cmp.Compare(strings.Join(a.Permissions, ","), strings.Join(b.Permissions, ","))
	}
	return cmp.Or(c, cmp.Compare(string(a.ID[:]), string(b.ID[:])))
}

// ending is a time after all others if the key never expires.
func ending(key *store.Key) time.Time {
	if key.ExpiresAt.IsZero() {
		return time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return key.ExpiresAt
}

// ids are the keys' ids in the order of a list.
func ids(keys []*store.Key, by store.SortField, desc bool) []store.ID {
	sorted := slices.SortedFunc(slices.Values(keys), func(a, b *store.Key) int {
		if desc {
			a, b = b, a
		}
		return compare(by, a, b)
	})
	list := make([]store.ID, 0, len(sorted))
	for _, key := range sorted {
		list = append(list, key.ID)
	}
	return list
}

func idsOf(keys []store.Key) []store.ID {
	list := make([]store.ID, 0, len(keys))
	for i := range keys {
		list = append(list, keys[i].ID)
	}
	return list
}

// tied are keys of which many are equal in each column that sorts. Some hold
// their permissions in no order, as other services may write them.
func tied(n int) []*store.Key {
	permissions := [][]string{
		{}, {"a:read"}, {"a:read", "b:read"}, {"b:read", "a:read"}, {"a:read-all"}, {"a:read0"}, {"a-b:read"}, {"b:x", "b:x", "a:x"},
	}
	labels := []string{"alpha", "Alpha", "ALPHA", "beta", "_", "[", "z", "Z", "é", "É", "zebra", "日本"}
	keys := make([]*store.Key, n)
	for i := range keys {
		key := newKey(labels[i%len(labels)])
		key.CreatedAt = epoch.Add(time.Duration(i%4) * time.Microsecond)
		key.Permissions = permissions[i%len(permissions)]
		if i%3 != 0 {
			key.LastUsedAt = epoch.Add(time.Duration(i%5) * time.Microsecond)
		}
		if i%4 != 1 {
			key.ExpiresAt = epoch.Add(time.Duration(i%6) * time.Microsecond)
		}
		keys[i] = key
	}
	return keys
}

// withSome counts the keys that hold a permission.
func withSome(keys []*store.Key) (n int) {
	for _, key := range keys {
		if len(key.Permissions) > 0 {
			n++
		}
	}
	return n
}

// everyOrder runs a test for each order that a list can have.
func everyOrder(t *testing.T, test func(t *testing.T, query store.KeyQuery)) {
	t.Helper()
	for _, by := range sorts {
		for _, desc := range []bool{false, true} {
			t.Run(fmt.Sprintf("by %s, descending %t", by, desc), func(t *testing.T) {
				test(t, store.KeyQuery{Limit: 7, Sort: by, Desc: desc})
			})
		}
	}
}

func testPages(t *testing.T, fresh func(tb testing.TB) *Backend) {
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"pages of any size hold every key once, ties included": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := create(t, s, tied(40)...)
			everyOrder(t, func(t *testing.T, query store.KeyQuery) {
				want := ids(keys, query.Sort, query.Desc)
				for _, query.Limit = range []int{1, 3, 20, 39, 40, 41, store.MaxLimit} {
					if diff := gocmp.Diff(want, idsOf(all(t, s, query))); diff != "" {
						t.Errorf("pages of %d differ (-want +got):\n%s", query.Limit, diff)
					}
				}
			})
		},
		"every page counts all keys and the last has no next": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			create(t, s, tied(14)...)
			everyOrder(t, func(t *testing.T, query store.KeyQuery) {
				for _, last := range []bool{false, true} {
					page := one(t, s, &query)
					if page.Total != 14 {
						t.Errorf("total = %d, want 14", page.Total)
					}
					if len(page.Keys) != 7 || (page.Next == nil) != last {
						t.Fatalf("%d keys and next %v, want 7 and last %t", len(page.Keys), page.Next, last)
					}
					query.After = page.Next
				}
			})
		},
		"a query that no list can answer is an error": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			create(t, s, newKey("x"))
			for _, query := range []store.KeyQuery{
				{Sort: store.SortLabel},
				{Sort: store.SortLabel, Limit: -1},
				{Sort: store.SortLabel, Limit: store.MaxLimit + 1},
				{Sort: "key_hash", Limit: 1},
				{Sort: "id; DROP TABLE system_keys", Limit: 1},
				{Limit: 1},
			} {
				if page, err := s.Keys(t.Context(), &query); page != nil || err == nil {
					t.Errorf("Keys(%+v) = %v, %v; want an error", query, page, err)
				}
			}
		},
		"an empty store has one empty page": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			everyOrder(t, func(t *testing.T, query store.KeyQuery) {
				page := one(t, s, &query)
				if len(page.Keys) != 0 || page.Total != 0 || page.Next != nil {
					t.Errorf("page = %+v, want an empty one", page)
				}
			})
		},
		"rows that come and go between pages move no other": func(t *testing.T, b *Backend) {
			everyOrder(t, func(t *testing.T, query store.KeyQuery) {
				s := migrated(t, fresh(t))
				keys := create(t, s, tied(60)...)
				fleeting := map[store.ID]bool{}
				for _, key := range keys[40:] {
					fleeting[key.ID] = true
				}
				got := all(t, s, query, func(page int) {
					// Two leave and one comes after every page.
					for i := range 2 {
						if n := 40 + 2*page + i; n < len(keys) {
							_, err := s.DeleteKey(t.Context(), keys[n].ID, nil)
							must(t, err)
						}
					}
					comer := tied(page + 1)[page]
					fleeting[comer.ID] = true
					create(t, s, comer)
				})
				stayed := slices.DeleteFunc(idsOf(got), func(id store.ID) bool { return fleeting[id] })
				if diff := gocmp.Diff(ids(keys[:40], query.Sort, query.Desc), stayed); diff != "" {
					t.Errorf("the keys that stayed differ (-want +got):\n%s", diff)
				}
				_ = b // each order has a place of its own
			})
		},
		"the cursor of a deleted key stays good": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := create(t, s, tied(30)...)
			everyOrder(t, func(t *testing.T, query store.KeyQuery) {
				page := one(t, s, &query)
				query.After = page.Next
				want := one(t, s, &query)
				last := read(t, s, page.Keys[len(page.Keys)-1].ID)
				_, err := s.DeleteKey(t.Context(), last.ID, nil)
				must(t, err)
				got := one(t, s, &query)
				if diff := gocmp.Diff(idsOf(want.Keys), idsOf(got.Keys)); diff != "" {
					t.Errorf("the page behind a deleted key differs (-want +got):\n%s", diff)
				}
				if want := len(keys) - 1; got.Total != want {
					t.Errorf("total = %d, want %d", got.Total, want)
				}
				create(t, s, last)
			})
		},
		"a cursor that points nowhere starts there": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := create(t, s, tied(10)...)
			for _, c := range []struct {
				cursor store.Cursor
				want   int
			}{
				{store.Cursor{Sort: store.SortLabel, Label: ""}, len(keys)},
				{store.Cursor{Sort: store.SortLabel, Label: strings.Repeat("\U0010ffff", 400)}, 0},
				{store.Cursor{Sort: store.SortLabel, Label: `'); DROP TABLE system_keys; --`}, len(keys)},
				{store.Cursor{Sort: store.SortCreatedAt, At: -1 << 52}, len(keys)},
				{store.Cursor{Sort: store.SortCreatedAt, At: 1 << 57}, 0},
				{store.Cursor{Sort: store.SortLastUsedAt}, len(keys)},
				{store.Cursor{Sort: store.SortLastUsedAt, At: 1 << 57}, 0},
				{store.Cursor{Sort: store.SortExpiresAt}, len(keys)},
				{store.Cursor{Sort: store.SortExpiresAt, At: 1 << 57}, 3},
				{store.Cursor{Sort: store.SortExpiresAt, At: store.NeverExpires, ID: store.ID(bytes.Repeat([]byte{0xff}, 16))}, 0},
				{store.Cursor{Sort: store.SortPermissions}, len(keys)},
				{store.Cursor{Sort: store.SortPermissions, Permissions: `'); DROP TABLE system_keys; --`}, withSome(keys)},
				{store.Cursor{Sort: store.SortPermissions, Permissions: strings.Repeat("z:z,", 1600)}, 0},
			} {
				query := store.KeyQuery{Limit: 100, Sort: c.cursor.Sort, After: &c.cursor}
				if page := one(t, s, &query); len(page.Keys) != c.want || page.Total != len(keys) {
					t.Errorf("behind %+v are %d keys of %d, want %d", c.cursor, len(page.Keys), page.Total, c.want)
				}
			}
		},
	})
}
