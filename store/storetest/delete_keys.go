package storetest

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// crowd creates keys that differ in what a filter asks for.
func crowd(t *testing.T, s store.Store) []*store.Key {
	t.Helper()
	var keys []*store.Key
	add := func(label, by string, after time.Duration, permissions ...string) {
		key := newKey(label)
		key.CreatedBy, key.CreatedAt, key.Permissions = by, epoch.Add(after), append([]string{}, permissions...)
		keys = append(keys, key)
	}
	add("ci-1", "user:eve", 0, "bots:read")
	add("ci-2", "user:eve", time.Hour, "bots:read", "bots:write")
	add("CI-3", "user:eve", time.Microsecond, "robots:read")
	add("not ci-4", "user:ev", -time.Microsecond, "bots:readers")
	add("c%-5", "cli", time.Minute)
	add("c_-6", "cli", time.Minute)
	add(`c\-7`, "user:eve", -time.Hour)
	add("*-8", "c%", 0, "bots:read")
	add("日本語", "user:eve", 0)
	for i, key := range keys[:6] {
		key.ExpiresAt = epoch.Add(time.Duration(i) * time.Microsecond)
	}
	return create(t, s, keys...)
}

// matchesFilter says which keys a filter is about.
func matchesFilter(f *store.KeyFilter, key *store.Key) bool {
	return !slices.Contains(f.Except, key.ID) &&
		(f.CreatedBy == "" || key.CreatedBy == f.CreatedBy) &&
		(f.CreatedSince.IsZero() || !key.CreatedAt.Before(f.CreatedSince)) &&
		bytes.HasPrefix([]byte(key.Label), []byte(f.LabelPrefix)) &&
		(f.Permission == "" || slices.Contains(key.Permissions, f.Permission)) &&
		(f.ExpiredBefore.IsZero() || !key.ExpiresAt.IsZero() && key.ExpiresAt.Before(f.ExpiredBefore))
}

func testDeleteKeys(t *testing.T, fresh func(tb testing.TB) *Backend) {
	byEve := &store.KeyFilter{CreatedBy: "user:eve"}
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"the keys that match every filter go, and no others": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			for _, filter := range []store.KeyFilter{
				{CreatedBy: "user:eve"},
				{CreatedBy: "c%"},
				{CreatedBy: "nobody"},
				{CreatedSince: epoch},
				{CreatedSince: epoch.Add(time.Nanosecond)},
				{CreatedSince: epoch.Add(-time.Nanosecond)},
				{LabelPrefix: "ci-"},
				{LabelPrefix: "c%"},
				{LabelPrefix: "%"},
				{LabelPrefix: "c_"},
				{LabelPrefix: "_"},
				{LabelPrefix: `c\`},
				{LabelPrefix: "*"},
				{LabelPrefix: "日本"},
				{LabelPrefix: "not ci-4 and more"},
				{Permission: "bots:read"},
				{Permission: "bots"},
				{Permission: "%"},
				{CreatedBy: "user:eve", LabelPrefix: "c", Permission: "bots:read"},
				{CreatedBy: "user:eve", CreatedSince: epoch.Add(time.Minute)},
				{LabelPrefix: "'); DROP TABLE system_keys; --"},
				{ExpiredBefore: epoch},
				{ExpiredBefore: epoch.Add(4 * time.Microsecond)},
				{ExpiredBefore: epoch.Add(time.Hour)},
				{ExpiredBefore: epoch.Add(time.Hour), CreatedBy: "user:eve"},
				{ExpiredBefore: epoch.Add(time.Hour), Limit: 2},
				{CreatedBy: "user:eve", Limit: 3},
				{CreatedBy: "user:eve", Limit: 100},
			} {
				keys := crowd(t, s)
				filter.Except = []store.ID{keys[1].ID, newID()}
				var want, left []store.ID
				for _, key := range keys {
					if matchesFilter(&filter, key) {
						want = append(want, key.ID)
					} else {
						left = append(left, key.ID)
					}
				}
				slices.SortFunc(want, func(a, b store.ID) int { return bytes.Compare(a[:], b[:]) })
				if filter.Limit > 0 && len(want) > filter.Limit {
					left, want = append(left, want[filter.Limit:]...), want[:filter.Limit]
				}
				matched, err := s.MatchKeys(t.Context(), &filter)
				must(t, err)
				total(t, s, len(keys))
				deleted, err := s.DeleteKeys(t.Context(), &filter, nil)
				must(t, err)
				if !slices.Equal(idsOfKeys(matched), want) || !slices.Equal(idsOfKeys(deleted), want) {
					t.Errorf("%+v: %d match and %d went, want %d", filter, len(matched), len(deleted), len(want))
				}
				for _, key := range deleted {
					same(t, key, withoutHash(keys[slices.IndexFunc(keys, func(k *store.Key) bool { return k.ID == key.ID })]))
				}
				total(t, s, len(left))
				for _, id := range left {
					_, err := s.DeleteKey(t.Context(), id, nil)
					must(t, err)
				}
			}
		},
		"a filter that is empty, or that no row can hold, deletes nothing": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := crowd(t, s)
			for _, filter := range []store.KeyFilter{
				{}, {Except: []store.ID{keys[0].ID}}, {LabelPrefix: "\x00"}, {CreatedBy: "\xff"}, {Permission: "a\x00"},
			} {
				_, matching := s.MatchKeys(t.Context(), &filter)
				_, deleting := s.DeleteKeys(t.Context(), &filter, nil)
				for _, err := range []error{matching, deleting} {
					if _, ok := errors.AsType[*store.InvalidError](err); !ok {
						t.Errorf("%+v: %v, want an InvalidError", filter, err)
					}
				}
			}
			total(t, s, len(keys))
		},
		"each deletion is in the log, and has its record": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := crowd(t, s)
			feed := follow(t, s)
			place := pull(t, feed, store.Position{}).Head
			deleted, err := s.DeleteKeys(t.Context(), byEve, recorded(store.AuditRevoked, sealer{}))
			must(t, err)
			loggedDeletions(t, feed, place, deleted)
			records := audit(t, s, store.AuditQuery{Event: store.AuditRevoked}).Records
			if len(records) != len(deleted) {
				t.Fatalf("%d records of %d deletions", len(records), len(deleted))
			}
			for i := range records {
				if r := &records[i]; r.Link.Seq == 0 || r.Actor.ID != "cli" {
					t.Errorf("the record is %+v", r)
				}
			}
			if len(deleted) != 5 || len(keys) != 9 {
				t.Errorf("%d of %d keys went", len(deleted), len(keys))
			}
		},
		"an expired key is deleted by one, with one record": func(t *testing.T, b *Backend) {
			one, other := migrated(t, b), migrated(t, b)
			keys := crowd(t, one)
			filter := &store.KeyFilter{ExpiredBefore: epoch.Add(time.Hour), Limit: 1}
			var group errgroup.Group
			for _, s := range []store.Store{one, other} {
				group.Go(func() error {
					for range keys {
						if _, err := s.DeleteKeys(t.Context(), filter, recorded(store.AuditExpired, sealer{})); err != nil {
							return err
						}
					}
					return nil
				})
			}
			must(t, group.Wait())
			total(t, one, 3)
			events(t, one, slices.Repeat([]store.AuditEvent{store.AuditExpired}, 6)...)
			gone := map[store.ID]bool{}
			for _, r := range audit(t, one, store.AuditQuery{Event: store.AuditExpired}).Records {
				gone[r.Key.ID] = true
				if r.Link.Seq == 0 {
					t.Errorf("the record is not sealed: %+v", r)
				}
			}
			if len(gone) != 6 {
				t.Errorf("%d keys have a record", len(gone))
			}
			if label, err := one.AuditLabel(t.Context(), keys[0].ID); label != keys[0].Label || err != nil {
				t.Errorf("AuditLabel = %q, %v", label, err)
			}
			_, revoked, err := one.KnownKeys(t.Context(), []store.ID{keys[0].ID, keys[8].ID})
			if must(t, err); !slices.Equal(revoked, []store.ID{keys[0].ID}) {
				t.Errorf("the log knows %v as gone", revoked)
			}
		},
		"without a trigger each deletion is in the log too": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			crowd(t, s)
			feed := follow(t, s)
			b.Exec(t, b.Unwatch)
			place := pull(t, feed, store.Position{}).Head
			deleted, err := s.DeleteKeys(t.Context(), byEve, nil)
			must(t, err)
			loggedDeletions(t, feed, place, deleted)
		},
		"what is not allowed, or not recorded, is not done": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := crowd(t, s)
			denied := errors.New("denied")
			if _, err := s.DeleteKeys(t.Context(), byEve, onWord(keys[4].ID, func(*store.Key) error { return denied })); !errors.Is(err, denied) {
				t.Errorf("DeleteKeys = %v, want the error of Allow", err)
			}
			if _, err := s.DeleteKeys(t.Context(), byEve, onWord(newID(), yes)); !errors.Is(err, store.ErrActorGone) {
				t.Errorf("DeleteKeys of a key that is gone = %v, want ErrActorGone", err)
			}
			// The last record cannot be stored: its id is taken by the one before.
			write, first := recorded(store.AuditRevoked, nil), store.ID{}
			record := write.Record
			write.Record = func(key *store.Key) store.AuditRecord {
				r := record(key).Clean()
				if first == (store.ID{}) {
					first = r.ID
				}
				r.ID = first
				return r
			}
			if _, err := s.DeleteKeys(t.Context(), byEve, write); err == nil {
				t.Error("two records have one id")
			}
			total(t, s, len(keys))
			if n := audit(t, s, store.AuditQuery{Event: store.AuditRevoked}).Total; n != 0 {
				t.Errorf("%d records of what was not done", n)
			}
		},
		"two deletions, and uses of the keys, wait for each other in no circle": func(t *testing.T, b *Backend) {
			one, other := migrated(t, b), migrated(t, b)
			keys := crowd(t, one)
			var group errgroup.Group
			counts := make(chan int, 2)
			for _, s := range []store.Store{one, other} {
				group.Go(func() error {
					deleted, err := s.DeleteKeys(t.Context(), &store.KeyFilter{LabelPrefix: "c"}, recorded(store.AuditRevoked, sealer{}))
					counts <- len(deleted)
					return err
				})
				group.Go(func() error {
					for n := range 10 {
						var uses []store.Use
						for _, key := range keys {
							uses = append(uses, store.Use{ID: key.ID, At: epoch.Add(time.Duration(n) * time.Second)})
						}
						if err := s.RecordUse(t.Context(), uses); err != nil {
							return err
						}
					}
					return nil
				})
			}
			must(t, group.Wait())
			if sum := <-counts + <-counts; sum != 5 {
				t.Errorf("%d keys were deleted, want 5", sum)
			}
		},
	})
}

func idsOfKeys(keys []*store.Key) (ids []store.ID) {
	for _, key := range keys {
		ids = append(ids, key.ID)
	}
	return ids
}

// loggedDeletions compares the log after a place with the keys that were deleted.
func loggedDeletions(t *testing.T, feed store.Feed, place store.Position, deleted []*store.Key) {
	t.Helper()
	var logged []store.ID
	for _, change := range pull(t, feed, place).Changes {
		if change.Kind == store.KeyDeleted {
			logged = append(logged, change.Key)
		}
	}
	slices.SortFunc(logged, func(a, b store.ID) int { return bytes.Compare(a[:], b[:]) })
	if !slices.Equal(logged, idsOfKeys(deleted)) || len(logged) == 0 {
		t.Errorf("the log has %d deletions, want %d", len(logged), len(deleted))
	}
}
