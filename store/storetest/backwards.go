package storetest

import (
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// before is the page before one of a list, in the list's order, and whether there
// is one further before it.
func before(tb reporter, s store.Store, query store.KeyQuery, page *store.KeyPage) (*store.KeyPage, bool) {
	tb.Helper()
	query.Desc = !query.Desc
	after, err := store.DecodeCursor(page.Prev.Encode(), query.Sort, query.Desc)
	must(tb, err)
	query.After = after
	reversed := one(tb, s, &query)
	more := reversed.Next != nil
	slices.Reverse(reversed.Keys)
	return reversed, more
}

func testBackwards(t *testing.T, fresh func(tb testing.TB) *Backend) {
	walk := func(t *testing.T, s store.Store, query store.KeyQuery) {
		t.Helper()
		var forwards [][]store.ID
		for {
			page := one(t, s, &query)
			forwards = append(forwards, idsOf(page.Keys))
			if n := len(forwards); n == 1 {
				if first, _ := before(t, s, query, page); len(first.Keys) != 0 || first.Prev != nil || first.Next != nil {
					t.Errorf("before the first page are %d keys, prev %v, next %v", len(first.Keys), first.Prev, first.Next)
				}
			} else {
				previous, more := before(t, s, query, page)
				if diff := gocmp.Diff(forwards[n-2], idsOf(previous.Keys)); diff != "" {
					t.Errorf("the page before page %d differs (-want +got):\n%s", n, diff)
				}
				if more != (n > 2) {
					t.Errorf("before page %d: more %t", n, more)
				}
			}
			if page.Next == nil {
				return
			}
			if len(forwards) == endless {
				t.Fatalf("the list goes on after %d pages", endless)
			}
			query.After = page.Next
		}
	}
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"the page before each page is the one that came before it": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			create(t, s, tied(40)...)
			everyOrder(t, func(t *testing.T, query store.KeyQuery) {
				for _, query.Limit = range []int{1, 7, 39, 40} {
					walk(t, s, query)
				}
			})
		},
		"so it is where filters narrow the list": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			create(t, s, tied(60)...)
			everyOrder(t, func(t *testing.T, query store.KeyQuery) {
				query.Limit = 4
				query.Search = "alpha"
				walk(t, s, query)
				query.Search, query.UnusedSince = "", epoch.Add(2)
				walk(t, s, query)
				query.UnusedSince, query.LiveAt = time.Time{}, epoch.Add(time.Microsecond)
				walk(t, s, query)
				query.ExpiringBefore = epoch.Add(5 * time.Microsecond)
				walk(t, s, query)
			})
		},
		"the page before is there when its neighbour was deleted": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			create(t, s, tied(30)...)
			everyOrder(t, func(t *testing.T, query store.KeyQuery) {
				first := one(t, s, &query)
				query.After = first.Next
				second := one(t, s, &query)
				victim := read(t, s, second.Keys[0].ID)
				_, err := s.DeleteKey(t.Context(), victim.ID, nil)
				must(t, err)
				previous, _ := before(t, s, query, second)
				if diff := gocmp.Diff(idsOf(first.Keys), idsOf(previous.Keys)); diff != "" {
					t.Errorf("the page before differs (-want +got):\n%s", diff)
				}
				create(t, s, victim)
			})
		},
		"a page without keys has no place before it": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			everyOrder(t, func(t *testing.T, query store.KeyQuery) {
				if page := one(t, s, &query); page.Prev != nil {
					t.Errorf("prev = %+v", page.Prev)
				}
			})
			create(t, s, tied(3)...)
			everyOrder(t, func(t *testing.T, query store.KeyQuery) {
				query.Search = "nothing"
				if page := one(t, s, &query); page.Prev != nil {
					t.Errorf("prev = %+v", page.Prev)
				}
			})
		},
	})
}
