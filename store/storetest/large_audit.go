package storetest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// LargeAuditRows is how many records a driver's own tests of a large audit log
// are to make: 20,000, or ten million where the environment has SOAK=1.
//
// The driver makes them in SQL, so that record i, counted from 0,
//   - has the id [LargeAuditID](i), and the time i milliseconds after
//     [LargeEpoch],
//   - is one of denied use if i mod 5000 is 1, else of use,
//   - is of key K = 0 if i is even, else of key K = i mod 1000, by that key,
//     whose id is [LargeAuditKey](K) and whose label is "Service K".
func LargeAuditRows() int {
	if os.Getenv("SOAK") == "1" {
		return 10_000_000
	}
	return 20_000
}

// LargeAuditKey is the id of a key of a large log: its number in hex digits at
// the end.
func LargeAuditKey(k int) store.ID {
	id, err := store.ParseID(fmt.Sprintf("00000000-0000-7000-8000-%012x", k))
	if err != nil {
		panic(err)
	}
	return id
}

// LargeAudit is a query to put to a large log, and how many records it keeps.
type LargeAudit struct {
	Name  string
	Query store.AuditQuery
	Total int
}

// LargeAuditQueries are filters that keep few records and many, alone and
// together, at the beginning of the log, in its middle, and for a part of it.
func LargeAuditQueries() []LargeAudit {
	rows := LargeAuditRows()
	at := func(i int) time.Time { return LargeEpoch.Add(time.Duration(i) * time.Millisecond) }
	busy, quiet := LargeAuditKey(0), LargeAuditKey(7)
	denied := func(q *store.AuditQuery) { q.Event = store.AuditDenied }
	var queries []LargeAudit
	add := func(name string, total int, change func(q *store.AuditQuery)) {
		q := store.AuditQuery{Limit: store.DefaultLimit}
		change(&q)
		queries = append(queries, LargeAudit{name, q, total})
		q.Before = store.AuditFloor(at(rows / 2))
		queries = append(queries, LargeAudit{name + ", middle page", q, total})
	}
	add("all", rows, func(*store.AuditQuery) {})
	add("a busy key", rows/2, func(q *store.AuditQuery) { q.Key = busy })
	add("a busy key, denied", 0, func(q *store.AuditQuery) { q.Key = busy; denied(q) })
	add("a busy key, by somebody else", 0, func(q *store.AuditQuery) { q.Key, q.Actor = busy, "cli" })
	add("a quiet key", rows/1000, func(q *store.AuditQuery) { q.Key = quiet })
	add("a quiet key, in an hour", 2, func(q *store.AuditQuery) { q.Key, q.Since, q.Until = quiet, at(4000), at(6000) })
	add("denied", rows/5000, denied)
	add("created", 0, func(q *store.AuditQuery) { q.Event = store.AuditCreated })
	add("a busy label", rows/2, func(q *store.AuditQuery) { q.Label = "service 0" })
	add("a quiet label, denied", rows/5000, func(q *store.AuditQuery) { q.Label = "SERVICE 1"; denied(q) })
	add("a busy actor", rows/2, func(q *store.AuditQuery) { q.Actor = busy.String() })
	add("a quiet actor", rows/1000, func(q *store.AuditQuery) { q.Actor = quiet.String() })
	add("nobody", 0, func(q *store.AuditQuery) { q.Actor = "cli" })
	add("a second", 1000, func(q *store.AuditQuery) { q.Since, q.Until = at(rows/3), at(rows/3+1000) })
	return queries
}

// LargeAuditLog checks the totals and the sizes of pages of the large queries.
func LargeAuditLog(t *testing.T, s store.Store) {
	t.Helper()
	for _, large := range LargeAuditQueries() {
		page := audit(t, s, large.Query)
		if want := min(large.Total, store.MaxAuditTotal); page.Total != want || page.More != (large.Total > want) {
			t.Errorf("%s: total = %d, more %v, want %d", large.Name, page.Total, page.More, large.Total)
		}
		if n := len(page.Records); large.Query.Before == (store.ID{}) && n != min(large.Query.Limit, page.Total) {
			t.Errorf("%s: the first page has %d records of %d", large.Name, n, page.Total)
		}
		for i := range page.Records {
			if !kept(&large.Query, &page.Records[i]) {
				t.Errorf("%s: keeps %+v", large.Name, page.Records[i])
			}
		}
	}
}

// BenchmarkLargeAudit prints what one page of each large query takes.
func BenchmarkLargeAudit(b *testing.B, s store.Store) {
	b.Helper()
	for _, large := range LargeAuditQueries() {
		b.Run(strings.ReplaceAll(large.Name, ",", ""), func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Audit(b.Context(), &large.Query); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
