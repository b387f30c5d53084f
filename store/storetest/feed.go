package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// follow opens a feed that its test closes.
func follow(tb testing.TB, s store.Store) store.Feed {
	tb.Helper()
	feed, err := s.Follow(context.WithoutCancel(tb.Context()))
	must(tb, err)
	tb.Cleanup(func() {
		if err := feed.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return feed
}

// pull is a view from this place in the log on.
func pull(tb testing.TB, feed store.Feed, from store.Position) *store.View {
	tb.Helper()
	view, err := feed.Pull(tb.Context(), &store.Turn{Applied: from, Limit: 1000})
	must(tb, err)
	return view
}

// entry is what a test says of a change: which key, and how.
type entry struct {
	Kind store.ChangeKind
	Key  store.ID
}

// logged returns what was logged after a place.
func logged(tb testing.TB, feed store.Feed, from store.Position) []entry {
	tb.Helper()
	view := pull(tb, feed, from)
	if !view.InLog {
		tb.Fatalf("the place %+v is not in the log", from)
	}
	var all []entry
	last := from
	for _, c := range view.Changes {
		if c.Rev <= last.Rev || c.At.IsZero() {
			tb.Errorf("change %+v follows %+v", c, last)
		}
		last = c.Position
		all = append(all, entry{c.Kind, c.Key})
	}
	if last != view.Head {
		tb.Errorf("the last change is at %+v, the head at %+v", last, view.Head)
	}
	return all
}

func testFeed(t *testing.T, fresh func(tb testing.TB) *Backend) {
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"the log is never empty": func(t *testing.T, b *Backend) {
			feed := follow(t, migrated(t, b))
			view := pull(t, feed, store.Position{})
			if view.Head.Rev < 1 || view.InLog || !view.Watched || view.Standby || view.Member {
				t.Errorf("a new store says %+v", view)
			}
			if view = pull(t, feed, view.Head); !view.InLog || len(view.Changes) != 0 {
				t.Errorf("from its head a new store says %+v", view)
			}
		},
		"what is logged, by whom it may be done":  func(t *testing.T, b *Backend) { testKinds(t, b) },
		"rows that are new move the place":        func(t *testing.T, b *Backend) { testInserts(t, b) },
		"a key that is gone is logged as deleted": func(t *testing.T, b *Backend) { testGone(t, b) },
		"what is not logged": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			feed := follow(t, s)
			key := create(t, s, newKey("quiet"))[0]
			head := newest(t, feed)
			must(t, s.RecordUse(t.Context(), []store.Use{{ID: key.ID, At: epoch.Add(time.Hour)}}))
			refused := errors.New("refused")
			acting := onWord(key.ID, func(*store.Key) error { return refused })
			if _, err := s.DeleteKey(t.Context(), key.ID, acting); !errors.Is(err, refused) {
				t.Errorf("deleting without being allowed to: %v", err)
			}
			if err := s.RehashKey(t.Context(), key.ID, newHash(), newHash()); !errors.Is(err, store.ErrConflict) {
				t.Errorf("rehashing from another hash: %v", err)
			}
			if all := logged(t, feed, head); len(all) != 0 {
				t.Errorf("logged %v", all)
			}
		},
		"nothing is skipped while many delete": func(t *testing.T, b *Backend) { testDeleters(t, b) },
		"a wait ends early when another instance deletes": func(t *testing.T, b *Backend) {
			s, other := migrated(t, b), open(t, b)
			key := create(t, s, newKey("waited for"))[0]
			feed := follow(t, s)
			head := pull(t, feed, store.Position{}).Head
			deleted := make(chan error, 1)
			go func() {
				_, err := other.DeleteKey(t.Context(), key.ID, nil)
				deleted <- err
			}()
			for began := time.Now(); len(logged(t, feed, head)) == 0; {
				must(t, feed.Wait(t.Context(), time.Minute))
				if time.Since(began) > 30*time.Second {
					t.Fatal("the wait lasted too long")
				}
			}
			must(t, <-deleted)
		},
		"a wait ends once for all changes that came before it": func(t *testing.T, b *Backend) {
			s, other := migrated(t, b), open(t, b)
			feed := follow(t, s)
			const changes, patience = 60, 200 * time.Millisecond
			for range changes {
				_, err := other.Barrier(t.Context())
				must(t, err)
			}
			waits := 0 // a notification may be late
			for began := time.Now(); ; began = time.Now() {
				must(t, feed.Wait(t.Context(), patience))
				pull(t, feed, store.Position{})
				if time.Since(began) >= patience {
					break
				}
				waits++
			}
			if waits > changes/2 {
				t.Errorf("%d changes end %d waits", changes, waits)
			}
		},
		"a wait ends with its patience, and with its context": func(t *testing.T, b *Backend) {
			feed := follow(t, migrated(t, b))
			must(t, feed.Wait(t.Context(), time.Millisecond))
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			must(t, feed.Wait(ctx, time.Hour))
			pull(t, feed, store.Position{}) // is of use still
		},
		"a feed is closed, and more than once": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			feed := follow(t, s)
			must(t, feed.Close())
			must(t, feed.Close())
			if err := feed.Wait(t.Context(), time.Millisecond); err == nil {
				t.Error("a feed that was closed waits")
			}
		},
		"a store is closed before its feed": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			feed := follow(t, s)
			must(t, s.Close())
			must(t, feed.Close())
		},
	})
}

func testKinds(t *testing.T, b *Backend) {
	s := migrated(t, b)
	feed := follow(t, s)
	fenced := newKey("f")
	fenced.Networks = networks(t, "10.0.0.0/8")
	keys := create(t, s, newKey("a"), newKey("b"), newKey("c"), newKey("d"), newKey("e"), fenced)
	head := newest(t, feed)
	moved := newKey("moved").ID
	at := func(n int) string { return fmt.Sprintf(" WHERE id = '%s'", keys[n].ID) }

	_, err := s.DeleteKey(t.Context(), keys[0].ID, nil)
	must(t, err)
	must(t, s.RehashKey(t.Context(), keys[1].ID, keys[1].Hash, newHash()))
	b.Exec(t, "DELETE FROM system_keys"+at(2))
	b.Exec(t, "UPDATE system_keys SET label = 'another'"+at(3))
	b.Exec(t, fmt.Sprintf("UPDATE system_keys SET key_hash = '%s'", string(newHash()))+at(3))
	b.Exec(t, fmt.Sprintf("UPDATE system_keys SET key_hash = '%s', label = 'both'", string(newHash()))+at(3))
	b.Exec(t, "UPDATE system_keys SET label = 'both'"+at(3)) // no change
	from := func(n int) string {
		return fmt.Sprintf("UPDATE system_keys SET networks = (SELECT networks FROM system_keys WHERE id = '%s')", keys[n].ID)
	}
	b.Exec(t, from(5)+at(3))
	b.Exec(t, from(5)+at(3)) // no change
	b.Exec(t, fmt.Sprintf("UPDATE system_keys SET key_hash = '%s', networks = (SELECT networks FROM system_keys WHERE id = '%s')",
		string(newHash()), keys[1].ID)+at(3))
	b.Exec(t, fmt.Sprintf("UPDATE system_keys SET id = '%s'", moved)+at(4))
	want := []entry{
		{store.KeyDeleted, keys[0].ID},
		{store.KeyRehashed, keys[1].ID},
		{store.KeyDeleted, keys[2].ID},
		{store.KeyChanged, keys[3].ID},
		{store.KeyRekeyed, keys[3].ID},
		{store.KeyRekeyed, keys[3].ID},
		{store.KeyChanged, keys[3].ID},
		{store.KeyRekeyed, keys[3].ID},
		{store.KeyDeleted, keys[4].ID},
		{store.KeyRekeyed, moved},
	}
	if diff := cmp.Diff(want, logged(t, feed, head)); diff != "" {
		t.Error(diff)
	}
	// A rehash leaves nothing behind that would hide what another service does.
	renewed := newHash()
	must(t, s.RehashKey(t.Context(), keys[5].ID, keys[5].Hash, renewed))
	head = pull(t, feed, head).Head
	b.Exec(t, fmt.Sprintf("UPDATE system_keys SET key_hash = '%s'", string(keys[5].Hash))+at(5))
	b.Exec(t, fmt.Sprintf("UPDATE system_keys SET key_hash = '%s'", string(renewed))+at(5))
	want = []entry{{store.KeyRekeyed, keys[5].ID}, {store.KeyRekeyed, keys[5].ID}}
	if diff := cmp.Diff(want, logged(t, feed, head)); diff != "" {
		t.Error(diff)
	}
}

// newest is the newest place, with everything that the store has to log.
func newest(tb testing.TB, feed store.Feed) store.Position {
	tb.Helper()
	return renew(tb, feed, store.Turn{}).Head
}

// testInserts has rows inserted in several ways. Each moves the place by one entry
// that forgets nothing, when the next instance has renewed.
func testInserts(t *testing.T, b *Backend) {
	s := migrated(t, b)
	feed := follow(t, s)
	row := func() string { return fmt.Sprintf("('%s', 'plain', '%s')", newKey("").ID, string(newHash())) }
	rows := func(n int) (all []string) {
		for range n {
			all = append(all, row())
		}
		return all
	}
	const insert = "INSERT INTO system_keys (id, label, key_hash) VALUES "
	for _, c := range []struct {
		name   string
		insert func()
	}{
		{"a key", func() { create(t, s, newKey("minted")) }},
		{"plain SQL", func() { b.Exec(t, insert+row()) }},
		{"a statement with many rows", func() { b.Exec(t, insert+strings.Join(rows(100), ", ")) }},
		{"a transaction with many statements", func() {
			b.Exec(t, "BEGIN;"+insert+strings.Join(rows(20), ";"+insert)+";COMMIT")
		}},
	} {
		head := newest(t, feed)
		c.insert()
		last := newest(t, feed)
		if diff := cmp.Diff([]entry{{Kind: store.KeysInserted}}, logged(t, feed, head)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		if again := newest(t, feed); again != last {
			t.Errorf("%s: the place goes on moving", c.name)
		}
	}
}

// testGone has an id deleted that has no row, or whose deletion no trigger has
// logged. Whatever the answer is, the log has it.
func testGone(t *testing.T, b *Backend) {
	s := migrated(t, b)
	feed := follow(t, s)
	key, unlogged := create(t, s, newKey("deleted twice"))[0], create(t, s, newKey("without a trigger"))[0]
	recorded := &store.Write{Record: func(key *store.Key) store.AuditRecord {
		return store.AuditRecord{Event: store.AuditRevoked, At: epoch, Key: store.AuditKey{ID: key.ID, Label: key.Label}}
	}}
	_, err := s.DeleteKey(t.Context(), key.ID, recorded)
	must(t, err)
	for name, id := range map[string]store.ID{"gone": key.ID, "never there": newKey("").ID} {
		for _, write := range []*store.Write{nil, recorded} {
			head := newest(t, feed)
			if _, err := s.DeleteKey(t.Context(), id, write); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
			if diff := cmp.Diff([]entry{{store.KeyDeleted, id}}, logged(t, feed, head)); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
	page, err := s.Audit(t.Context(), &store.AuditQuery{Limit: 10, Event: store.AuditRevoked})
	must(t, err)
	if page.Total != 1 {
		t.Errorf("%d records of one deletion", page.Total)
	}
	head := newest(t, feed)
	b.Exec(t, b.Unwatch)
	if pull(t, feed, head).Watched {
		t.Error("that a trigger is missing goes unnoticed")
	}
	_, err = s.DeleteKey(t.Context(), unlogged.ID, nil)
	must(t, err)
	if diff := cmp.Diff([]entry{{store.KeyDeleted, unlogged.ID}}, logged(t, feed, head)); diff != "" {
		t.Error(diff)
	}
}

// testDeleters has many delete at the same time, and followers that read on in
// small steps meanwhile.
func testDeleters(t *testing.T, b *Backend) {
	s, other := migrated(t, b), open(t, b)
	const deleters, each = 8, 12
	var keys []*store.Key
	for n := range deleters * each {
		keys = append(keys, newKey(fmt.Sprint("deleted ", n)))
	}
	create(t, s, keys...)
	start := newest(t, follow(t, s))
	rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	var group errgroup.Group
	for n := range deleters {
		from := []store.Store{s, other}[n%2]
		group.Go(func() error {
			for _, key := range keys[n*each : (n+1)*each] {
				if _, err := from.DeleteKey(t.Context(), key.ID, nil); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for _, from := range []store.Store{s, other} {
		feed := follow(t, from)
		group.Go(func() error {
			place, seen := start, 0
			for seen < len(keys) {
				view, err := feed.Pull(t.Context(), &store.Turn{Applied: place, Limit: 3})
				if err != nil {
					return err
				}
				if !view.InLog || len(view.Changes) > 3 {
					return fmt.Errorf("a step from %+v is %+v", place, view)
				}
				for _, c := range view.Changes {
					if c.Rev != place.Rev+1 {
						return fmt.Errorf("change %d follows %d", c.Rev, place.Rev)
					}
					place = c.Position
					seen++
				}
			}
			return nil
		})
	}
	must(t, group.Wait())
}
