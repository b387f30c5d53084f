// Package storetest is the definition of a [store.Store] in executable form:
// a suite that every driver runs from its own tests.
//
// A new driver implements store.Store and calls [Run]. A change to the contract
// starts here.
package storetest

import (
	"context"
	"slices"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Backend is one empty place where keys can be kept, such as a file or a
// database, for the length of one test.
type Backend struct {
	// Open opens the place once more, as another instance would, without
	// migrating it. The suite closes what it opens.
	Open func(tb testing.TB) store.Store
	// Outdate records in the schema, behind the store's back, a migration that
	// this program does not know.
	Outdate func(tb testing.TB)
	// Exec runs a statement that every dialect knows, as another service would.
	Exec func(tb testing.TB, statement string)
	// Unwatch is a statement that takes away the trigger which logs deletions.
	Unwatch string
	// Schema is where tables are that are not for other services, as a prefix of
	// their names.
	Schema string
}

// Run runs the groups of the suite with these names, and the whole suite without any. It calls
// fresh once for each test, possibly several times at the same time, and fresh registers with tb
// what has to be cleaned up.
func Run(t *testing.T, fresh func(tb testing.TB) *Backend, groups ...string) {
	t.Helper()
	for _, group := range []struct {
		name string
		test func(t *testing.T, fresh func(tb testing.TB) *Backend)
	}{
		{"migrations", testMigrations},
		{"keys", testKeys},
		{"acting", testActing},
		{"deleting many", testDeleteKeys},
		{"rotation", testRotation},
		{"heirs", testHeirs},
		{"rehash", testRehash},
		{"use", testUse},
		{"activity", testActivity},
		{"new networks", testNewNetworks},
		{"pages", testPages},
		{"filters", testFilters},
		{"labels", testLabels},
		{"close", testClose},
		{"cancellation", testCancellation},
		{"model", testModel},
		{"feed", testFeed},
		{"turns", testTurns},
		{"members", testMembers},
		{"history", testHistory},
		{"audit", testAudit},
		{"sessions", testSessions},
		{"ends of sessions", testSessionEnds},
		{"nonces", testNonces},
		{"granted", testGranted},
		{"pages backwards", testBackwards},
		{"signing keys", testSigning},
		{"moving", testMoving},
		{"adding", testAdding},
		{"adoption", testAdoption},
	} {
		if len(groups) > 0 && !slices.Contains(groups, group.name) {
			continue
		}
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			group.test(t, fresh)
		})
	}
}

// run runs named tests in parallel, each with a backend of its own.
func run(t *testing.T, fresh func(tb testing.TB) *Backend, tests map[string]func(t *testing.T, b *Backend)) {
	t.Helper()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, fresh(t))
		})
	}
}

// open opens the backend and leaves the schema as it is.
func open(tb testing.TB, b *Backend) store.Store {
	tb.Helper()
	s := b.Open(tb)
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return s
}

// migrated opens the backend and brings its schema up to date.
func migrated(tb testing.TB, b *Backend) store.Store {
	tb.Helper()
	s := open(tb, b)
	must(tb, s.Migrate(tb.Context()))
	return s
}

// reporter is what a *testing.T and a *rapid.T have in common.
type reporter interface {
	Helper()
	Context() context.Context
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func must(tb reporter, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// create creates the keys and returns them.
func create(tb reporter, s store.Store, keys ...*store.Key) []*store.Key {
	tb.Helper()
	for _, key := range keys {
		must(tb, s.CreateKey(tb.Context(), key, nil))
	}
	return keys
}

// read reads one key that must be there.
func read(tb reporter, s store.Store, id store.ID) *store.Key {
	tb.Helper()
	key, err := s.Key(tb.Context(), id)
	must(tb, err)
	return key
}

// endless is more pages than any list of the suite has.
const endless = 1000

// all walks every page of a list and checks what holds for each of them.
func all(tb reporter, s store.Store, query store.KeyQuery, between ...func(page int)) []store.Key {
	tb.Helper()
	var keys []store.Key
	for n := 0; ; n++ {
		page := one(tb, s, &query)
		keys = append(keys, page.Keys...)
		if page.Next == nil {
			return keys
		}
		if n == endless {
			tb.Fatalf("the list goes on after %d pages", n)
		}
		if len(page.Keys) != query.Limit {
			tb.Fatalf("page %d has %d keys and a next page, want %d keys", n, len(page.Keys), query.Limit)
		}
		// The road that a cursor takes through a URL.
		next, err := store.DecodeCursor(page.Next.Encode(), query.Sort, query.Desc)
		must(tb, err)
		query.After = next
		for _, f := range between {
			f(n)
		}
	}
}

// one returns one page of a list.
func one(tb reporter, s store.Store, query *store.KeyQuery) *store.KeyPage {
	tb.Helper()
	page, err := s.Keys(context.WithoutCancel(tb.Context()), query)
	must(tb, err)
	if len(page.Keys) > query.Limit {
		tb.Fatalf("a page has %d keys, want %d at most", len(page.Keys), query.Limit)
	}
	for i := range page.Keys {
		if page.Keys[i].Hash != "" {
			tb.Fatal("a list returned the hash of a key")
		}
	}
	return page
}
