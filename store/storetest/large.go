package storetest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// LargeRows is how many keys a driver's own tests of large lists are to make:
// 20,000, or a million where the environment has SOAK=1.
//
// The driver makes them in SQL, so that key i, counted from 0:
//   - has an id that begins with 019b, and ends as [LargeIDEnd] says,
//   - is called "service M worker X", with M = i mod 1000 and X = i as eight
//     hex digits in lower case,
//   - was created i seconds after [LargeEpoch],
//   - holds no permission if i mod 10 is 0, else "area-M:read" and "area-M:write",
//   - was never used if i mod 1000 is 0, else (i × 7919 mod LargeRows) seconds
//     after [LargeEpoch],
//   - never expires if i mod 10 is 0, else (i × 7907 mod LargeRows) seconds
//     after [LargeEpoch].
func LargeRows() int {
	if os.Getenv("SOAK") == "1" {
		return 1_000_000
	}
	return 20_000
}

// LargeIDEnd is how the id of key i ends: (i + 1) × 2688698572773 mod 2^48, as twelve hex
// digits in lower case.
func LargeIDEnd(i int) string { return fmt.Sprintf("%012x", (i+1)*2688698572773%(1<<48)) }

// LargeEpoch is when the first key of a large list was created.
var LargeEpoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// LargeQuery is a query to put to a large list, and how many keys it counts. Below zero, that
// depends on the ids.
type LargeQuery struct {
	Name  string
	Query store.KeyQuery
	Total int
	// Scans says that no index can serve the filter.
	Scans bool
}

// LargeQueries are lists in every order, at the start, the middle and the end,
// and with filters that keep few keys, half of them and all.
func LargeQueries() []LargeQuery {
	rows := LargeRows()
	at := func(i int) int64 { return LargeEpoch.Add(time.Duration(i) * time.Second).UnixMicro() }
	half := time.UnixMicro(at(rows / 2))
	soon, late := time.UnixMicro(at(rows/20)), time.UnixMicro(at(rows-rows/20))
	ending := func(from, before time.Time) (n int) { // how many expire after one time and before another
		for i := range rows {
			if expires := at(i * 7907 % rows); i%10 != 0 && expires > from.UnixMicro() && expires < before.UnixMicro() {
				n++
			}
		}
		return n
	}
	end := time.UnixMicro(at(rows))
	live := map[time.Time]int{soon: rows/10 + ending(soon, end), late: rows/10 + ending(late, end)}
	expiring, unused := ending(half, late), 0
	for i := range rows {
		if (i%10 == 0 || at(i*7907%rows) > soon.UnixMicro()) && (i%1000 == 0 || at(i*7919%rows) < half.UnixMicro()) {
			unused++
		}
	}
	var queries []LargeQuery
	for _, by := range sorts {
		for _, desc := range []bool{false, true} {
			query := store.KeyQuery{Limit: store.DefaultLimit, Sort: by, Desc: desc}
			name := fmt.Sprintf("by %s", by)
			if desc {
				name += " descending"
			}
			add := func(what string, total int, scans bool, change func(q *store.KeyQuery)) {
				q := query
				change(&q)
				queries = append(queries, LargeQuery{Name: name + ", " + what, Query: q, Total: total, Scans: scans})
			}
			add("first page", rows, false, func(*store.KeyQuery) {})
			add("middle page", rows, false, func(q *store.KeyQuery) {
				q.After = &store.Cursor{Sort: by, Desc: desc}
				switch by {
				case store.SortLabel:
					q.After.Label = "service 5"
				case store.SortPermissions:
					q.After.Permissions = "area-5"
				case store.SortCreatedAt, store.SortLastUsedAt, store.SortExpiresAt:
					q.After.At = at(rows / 2)
				}
			})
			add("page of the end", rows, false, func(q *store.KeyQuery) {
				q.After = &store.Cursor{Sort: by, Desc: desc}
				switch {
				case by == store.SortLabel && desc:
					q.After.Label = "service 0 worker 0000ffff"
				case by == store.SortLabel:
					q.After.Label = "service 999 worker 00000fff"
				case by == store.SortPermissions && desc:
					q.After.Permissions = "area-1"
				case by == store.SortPermissions:
					q.After.Permissions = "area-998"
				case desc:
					q.After.At = at(rows / 20)
				default:
					q.After.At = at(rows - rows/20)
				}
			})
			add("never used", rows/1000, false, func(q *store.KeyQuery) { q.UnusedSince = LargeEpoch })
			add("half of them unused", (rows+rows/1000)/2, false, func(q *store.KeyQuery) { q.UnusedSince = half })
			add("search for one", 1, false, func(q *store.KeyQuery) { q.Search = "WORKER 00000ABC" })
			add("search for a thousandth", rows/1000, false, func(q *store.KeyQuery) { q.Search = "vice 777 w" })
			add("search for all", rows, true, func(q *store.KeyQuery) { q.Search = "worker" })
			add("search by two letters", rows, true, func(q *store.KeyQuery) { q.Search = "se" })
			add("search for an id", 1, false, func(q *store.KeyQuery) { q.Search = strings.ToUpper(LargeIDEnd(4711)) })
			add("search for a few digits of ids", -1, false, func(q *store.KeyQuery) { q.Search = LargeIDEnd(4711)[3:8] })
			add("search for how all ids begin", rows, true, func(q *store.KeyQuery) { q.Search = "019b" })
			add("search for an id, unused", 1, false, func(q *store.KeyQuery) {
				q.Search, q.UnusedSince = LargeIDEnd(2000)[1:], half
			})
			add("search for none", 0, false, func(q *store.KeyQuery) { q.Search = "no such label" })
			add("search for one, unused", 1, false, func(q *store.KeyQuery) {
				q.Search, q.UnusedSince = "worker 000007d0", half // key 2000 was never used
			})
			add("few are hidden", live[soon], false, func(q *store.KeyQuery) { q.LiveAt = soon })
			add("most are hidden", live[late], true, func(q *store.KeyQuery) { q.LiveAt = late })
			add("few are hidden, of a search for all", live[soon], true, func(q *store.KeyQuery) { q.LiveAt, q.Search = soon, "worker" })
			add("few are hidden, of those unused", unused, false, func(q *store.KeyQuery) { q.LiveAt, q.UnusedSince = soon, half })
			add("expiring", expiring, false, func(q *store.KeyQuery) { q.LiveAt, q.ExpiringBefore = half, late })
			add("expiring, middle page", expiring, false, func(q *store.KeyQuery) {
				q.LiveAt, q.ExpiringBefore = half, late
				q.After = &store.Cursor{Sort: by, Desc: desc}
				switch by {
				case store.SortLabel:
					q.After.Label = "service 5"
				case store.SortPermissions:
					q.After.Permissions = "area-5"
				case store.SortCreatedAt, store.SortLastUsedAt, store.SortExpiresAt:
					q.After.At = at(rows * 3 / 4)
				}
			})
		}
	}
	return queries
}

// Unindexed reports whether no index has the order of the list: that a page of it
// is sorted out of all rows is no fault.
func (q *LargeQuery) Unindexed() bool { return q.Query.Sort == store.SortPermissions }

// Large checks the totals and the pages' sizes of the large queries.
func Large(t *testing.T, s store.Store) {
	t.Helper()
	for _, large := range LargeQueries() {
		page := one(t, s, &large.Query)
		if large.Total >= 0 && page.Total != large.Total {
			t.Errorf("%s: total = %d, want %d", large.Name, page.Total, large.Total)
		}
		if !slices.IsSortedFunc(page.Keys, func(a, b store.Key) int {
			if large.Query.Desc {
				a, b = b, a
			}
			return compare(large.Query.Sort, &a, &b)
		}) {
			t.Errorf("%s: the page is not in order", large.Name)
		}
		if large.Query.After == nil && len(page.Keys) != min(large.Query.Limit, page.Total) {
			t.Errorf("%s: the first page has %d keys of %d", large.Name, len(page.Keys), page.Total)
		}
	}
	granted, err := s.Granted(t.Context(), 10_000)
	must(t, err)
	if len(granted) != store.MaxGranted || granted[0] != "area-101:read" || granted[1] != "area-101:write" || !slices.IsSorted(granted) {
		t.Errorf("%d permissions are in use, of them %q", len(granted), granted[:min(2, len(granted))])
	}
}

// BenchmarkLarge prints what one page of each large query takes.
func BenchmarkLarge(b *testing.B, s store.Store) {
	b.Helper()
	for _, large := range LargeQueries() {
		b.Run(strings.ReplaceAll(large.Name, ",", ""), func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Keys(b.Context(), &large.Query); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkGranted prints what the permissions in use of 10,000 keys take among
// many.
func BenchmarkGranted(b *testing.B, s store.Store) {
	b.Helper()
	for b.Loop() {
		if _, err := s.Granted(b.Context(), 10_000); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUse prints what one batch of uses of 10,000 keys takes among many.
func BenchmarkUse(b *testing.B, s store.Store) {
	b.Helper()
	query := store.KeyQuery{Limit: store.MaxLimit, Sort: store.SortLabel}
	var uses []store.Use
	for len(uses) < 10_000 {
		page := one(b, s, &query)
		for i := range page.Keys {
			uses = append(uses, store.Use{ID: page.Keys[i].ID})
		}
		query.After = page.Next
	}
	at := LargeEpoch.AddDate(0, 6, 0)
	for b.Loop() {
		at = at.Add(time.Second)
		for i := range uses {
			uses[i].At = at
		}
		if err := s.RecordUse(b.Context(), uses); err != nil {
			b.Fatal(err)
		}
	}
}
