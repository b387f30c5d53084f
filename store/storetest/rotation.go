package storetest

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// successorOf is a rotation after which the old key has an hour, or a minute after the first
// use of its successor. By is who mints the successor.
func successorOf(id store.ID, by string) *store.Rotation {
	return &store.Rotation{
		ID: id, Deadline: time.Hour, Grace: time.Minute,
		Successor: func(old *store.Key) (*store.Key, error) {
			key := newKey(old.Label)
			key.Permissions, key.CreatedBy = old.Permissions, by
			return key, nil
		},
	}
}

// rotate replaces a key, by a caller who knows of its successor.
func rotate(tb reporter, s store.Store, rotation *store.Rotation) *store.Rotated {
	tb.Helper()
	rotation.Known = []store.ID{read(tb, s, rotation.ID).ReplacedBy}
	rotated, err := s.RotateKey(tb.Context(), rotation, recorded(store.AuditRevoked, sealer{}))
	must(tb, err)
	return rotated
}

// rotateItself replaces a key by a successor that the key has minted.
func rotateItself(tb reporter, s store.Store, id store.ID) *store.Key {
	tb.Helper()
	return rotate(tb, s, successorOf(id, id.String())).New
}

func use(tb reporter, s store.Store, id store.ID) {
	tb.Helper()
	must(tb, s.RecordUse(tb.Context(), []store.Use{{ID: id, First: time.Now(), At: time.Now()}}))
}

// ends checks that a key ends this time from now, by a clock that may differ by some seconds.
func ends(tb reporter, key *store.Key, in time.Duration) {
	tb.Helper()
	if left := time.Until(key.ExpiresAt); left < in-20*time.Second || left > in+20*time.Second {
		tb.Errorf("the key ends in %v, want %v", left, in)
	}
}

// there checks which keys there are.
func there(tb reporter, s store.Store, want map[store.ID]bool) {
	tb.Helper()
	for id, want := range want {
		if _, err := s.Key(tb.Context(), id); (err == nil) != want || err != nil && !errors.Is(err, store.ErrNotFound) {
			tb.Errorf("the key %s: %v, want it there: %t", id, err, want)
		}
	}
}

func testRotation(t *testing.T, fresh func(tb testing.TB) *Backend) {
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"the old key ends at the deadline": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			old := newKey("bot")
			old.Permissions = []string{"bots:read"}
			create(t, s, old)
			feed := follow(t, s)
			place := newest(t, feed)
			r := rotate(t, s, successorOf(old.ID, "cli"))
			after := read(t, s, old.ID)
			ends(t, after, time.Hour)
			if after.ReplacedBy != r.New.ID || after.Grace != time.Minute || after.Hash != old.Hash || !after.PlannedExpiry.IsZero() || len(r.Ended) > 0 {
				t.Errorf("the old key is %+v", after)
			}
			same(t, r.Old, withoutHash(after))
			same(t, read(t, s, r.New.ID), r.New)
			if n := r.New; n.Replaces != old.ID || !n.ExpiresAt.IsZero() || n.Ancestors != nil || !slices.Equal(n.Permissions, old.Permissions) {
				t.Errorf("the successor is %+v", n)
			}
			if !slices.Contains(logged(t, feed, place), entry{store.KeyChanged, old.ID}) {
				t.Error("the end of the old key is not in the log")
			}
			if records := audit(t, s, store.AuditQuery{Key: r.New.ID}).Records; len(records) != 1 || records[0].Link.Seq == 0 {
				t.Errorf("the records of the successor are %+v", records)
			}
		},
		"the first use of the successor ends the old key sooner, the second does not": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			old := create(t, s, newKey("bot"))[0]
			r := rotate(t, s, successorOf(old.ID, "cli"))
			use(t, s, old.ID)
			ends(t, read(t, s, old.ID), time.Hour)
			// A refusal is no use.
			must(t, s.RecordUse(t.Context(), []store.Use{{ID: r.New.ID, Days: []store.DayUse{{Day: store.DayOf(time.Now()), Requests: 1, Denied: 1}}}}))
			ends(t, read(t, s, old.ID), time.Hour)
			use(t, s, r.New.ID)
			first := read(t, s, old.ID)
			ends(t, first, time.Minute)
			must(t, s.RecordUse(t.Context(), []store.Use{{ID: r.New.ID, First: time.Now(), At: time.Now()}, {ID: old.ID, First: time.Now(), At: time.Now()}}))
			if second := read(t, s, old.ID); !second.ExpiresAt.Equal(first.ExpiresAt) {
				t.Errorf("the second use has moved the end from %v to %v", first.ExpiresAt, second.ExpiresAt)
			}
		},
		"at the first use the longest lease counts if it is longer than the grace": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			old := create(t, s, newKey("bot"))[0]
			next := rotate(t, s, successorOf(old.ID, "cli")).New
			must(t, follow(t, s).Join(t.Context(), &store.Member{ID: newID(), Name: "test", TTL: 2 * time.Minute}))
			use(t, s, next.ID)
			ends(t, read(t, s, old.ID), 2*time.Minute)
		},
		"no end is put off, and no successor lives longer": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			old := newKey("bot")
			old.CreatedAt = time.Now().UTC().Truncate(time.Microsecond).Add(-time.Hour)
			old.ExpiresAt = old.CreatedAt.Add(time.Hour + 30*time.Second)
			create(t, s, old)
			r := rotate(t, s, successorOf(old.ID, "cli"))
			if after := read(t, s, old.ID); !after.ExpiresAt.Equal(old.ExpiresAt) || !after.PlannedExpiry.Equal(old.ExpiresAt) {
				t.Errorf("the old key ends at %v, planned for %v, want %v", after.ExpiresAt, after.PlannedExpiry, old.ExpiresAt)
			}
			use(t, s, r.New.ID)
			if after := read(t, s, old.ID); !after.ExpiresAt.Equal(old.ExpiresAt) {
				t.Errorf("the old key ends at %v, want %v", after.ExpiresAt, old.ExpiresAt)
			}
			if lives := r.New.ExpiresAt.Sub(r.New.CreatedAt); lives != time.Hour+30*time.Second {
				t.Errorf("the successor lives %v", lives)
			}
		},
		"a successor that was not used makes way for another": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			old := create(t, s, newKey("bot"))[0]
			first := rotate(t, s, successorOf(old.ID, "cli"))
			feed := follow(t, s)
			place := newest(t, feed)
			again := rotate(t, s, successorOf(old.ID, "cli"))
			there(t, s, map[store.ID]bool{old.ID: true, first.New.ID: false, again.New.ID: true})
			if len(again.Ended) != 1 || again.Ended[0].ID != first.New.ID || !again.New.ExpiresAt.IsZero() {
				t.Errorf("ended are %+v, and the successor is %+v", again.Ended, again.New)
			}
			loggedDeletions(t, feed, place, again.Ended)
			if after := read(t, s, old.ID); after.ReplacedBy != again.New.ID || !after.ExpiresAt.Equal(first.Old.ExpiresAt) {
				t.Errorf("the old key is %+v, and ended before at %v", after, first.Old.ExpiresAt)
			}
			if records := audit(t, s, store.AuditQuery{Key: first.New.ID}).Records; len(records) != 2 || records[0].Link.Seq == 0 || records[0].Actor.ID != "cli" {
				t.Errorf("the records of the first successor are %+v", records)
			}
			use(t, s, again.New.ID)
			_, err := s.RotateKey(t.Context(), successorOf(old.ID, "cli"), nil)
			if replaced, ok := errors.AsType[*store.ReplacedError](err); !ok || replaced.By != again.New.ID {
				t.Errorf("once the successor is in use: %v", err)
			}
			// Once that successor was revoked, there may be another.
			_, err = s.DeleteKey(t.Context(), again.New.ID, nil)
			must(t, err)
			rotate(t, s, successorOf(old.ID, "cli"))
		},
		"a rotation that comes late keeps the successor of another": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			old := create(t, s, newKey("bot"))[0]
			first := rotate(t, s, successorOf(old.ID, "cli")).New
			late := successorOf(old.ID, "cli")
			late.Known = []store.ID{first.ID}
			second := rotate(t, s, successorOf(old.ID, "cli")).New
			_, err := s.RotateKey(t.Context(), late, nil)
			if replaced, ok := errors.AsType[*store.ReplacedError](err); !ok || replaced.By != second.ID || replaced.InUse {
				t.Errorf("the late one: %v", err)
			}
			there(t, s, map[store.ID]bool{old.ID: true, second.ID: true})
		},
		"a successor that was replaced is in use": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			old := create(t, s, newKey("bot"))[0]
			next := rotate(t, s, successorOf(old.ID, "cli")).New
			rotateItself(t, s, next.ID)
			if _, err := s.RotateKey(t.Context(), successorOf(old.ID, "cli"), nil); err == nil {
				t.Error("the old key is replaced again")
			}
		},
		"now is at once": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			old := newKey("bot")
			old.ExpiresAt = time.Now().UTC().Truncate(time.Microsecond).Add(time.Hour)
			create(t, s, old)
			unused := rotateItself(t, s, old.ID)
			at := successorOf(old.ID, old.ID.String())
			at.Now, at.Grace, at.Deadline = true, 0, 0
			r := rotate(t, s, at)
			there(t, s, map[store.ID]bool{old.ID: false, unused.ID: false, r.New.ID: true})
			if len(r.Ended) != 2 || !slices.Equal(r.New.Ancestors, []store.ID{old.ID}) {
				t.Errorf("ended are %+v, and the successor is %+v", r.Ended, r.New)
			}
			same(t, read(t, s, r.New.ID), r.New)
			for _, key := range r.Ended {
				if records := audit(t, s, store.AuditQuery{Key: key.ID, Event: store.AuditRevoked}).Records; records[0].Actor.ID != "cli" {
					t.Errorf("the records of %s are %+v", key.ID, records)
				}
			}
		},
		"what cannot be replaced stays as it is": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			expired, good := newKey("expired"), newKey("good")
			expired.ExpiresAt = time.Now().UTC().Truncate(time.Microsecond).Add(-time.Second)
			create(t, s, expired, good)
			join(t, follow(t, s)) // its lease is a minute
			hasty, short, refused := successorOf(good.ID, "cli"), successorOf(good.ID, "cli"), successorOf(good.ID, "cli")
			hasty.Grace, short.Deadline = time.Minute-time.Millisecond, time.Minute-time.Millisecond
			denied := errors.New("denied")
			refused.Successor = func(*store.Key) (*store.Key, error) { return nil, denied }
			for name, c := range map[string]struct {
				rotation *store.Rotation
				write    *store.Write
				want     func(err error) bool
			}{
				"of a key that is not there": {successorOf(newID(), "cli"), nil, func(err error) bool { return errors.Is(err, store.ErrNotFound) }},
				"of an expired key":          {successorOf(expired.ID, "cli"), nil, func(err error) bool { return errors.Is(err, store.ErrEnded) }},
				"with a grace too short":     {hasty, nil, isInvalid("grace")},
				"with a deadline too short":  {short, nil, isInvalid("deadline")},
				"that is refused":            {refused, nil, func(err error) bool { return errors.Is(err, denied) }},
				"by a key that may not": {successorOf(good.ID, "cli"), onWord(good.ID, func(*store.Key) error { return denied }), func(err error) bool {
					return errors.Is(err, denied)
				}},
				"by a key that is gone": {successorOf(good.ID, "cli"), onWord(newID(), yes), func(err error) bool { return errors.Is(err, store.ErrActorGone) }},
			} {
				if _, err := s.RotateKey(t.Context(), c.rotation, c.write); !c.want(err) {
					t.Errorf("a rotation %s: %v", name, err)
				}
			}
			same(t, read(t, s, good.ID), good)
			same(t, read(t, s, expired.ID), expired)
		},
		"a key that was replaced is not missed when it expires": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			replaced, other := newKey("replaced"), newKey("other")
			other.ExpiresAt = time.Now().UTC().Truncate(time.Microsecond).Add(time.Hour)
			create(t, s, replaced, other)
			rotate(t, s, successorOf(replaced.ID, "cli"))
			for unreplaced, want := range map[bool]int{false: 2, true: 1} {
				for _, sort := range []store.SortField{store.SortExpiresAt, store.SortLabel} {
					page := one(t, s, &store.KeyQuery{
						Limit: 5, Sort: sort, LiveAt: time.Now(), ExpiringBefore: time.Now().Add(2 * time.Hour), Unreplaced: unreplaced,
					})
					if page.Total != want || len(page.Keys) != want {
						t.Errorf("%d keys of %d expire, want %d", len(page.Keys), page.Total, want)
					}
				}
			}
		},
		"a retired key is deleted when no lease is left from before its end": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			feed := follow(t, s)
			me := newID()
			must(t, feed.Join(t.Context(), &store.Member{ID: me, Name: "test", TTL: 2 * time.Second}))
			keys := create(t, s, newKey("retired"), newKey("replaced"), newKey("expired"))
			retiring := successorOf(keys[0].ID, "cli")
			retiring.Deadline, retiring.Grace = 2*time.Second, time.Hour
			next := rotate(t, s, retiring).New
			rotate(t, s, successorOf(keys[1].ID, "cli"))
			b.Exec(t, "UPDATE system_keys SET expires_at = created_at WHERE label = 'expired'")
			filter := &store.KeyFilter{Retired: true}
			end := read(t, s, keys[0].ID).ExpiresAt
			for began := time.Now(); !renew(t, feed, store.Turn{Member: me, ExpiredBefore: epoch}).Expired; time.Sleep(10 * time.Millisecond) {
				if time.Since(began) > time.Minute {
					t.Fatal("no turn says that there is a retired key")
				}
				if deleted, err := s.DeleteKeys(t.Context(), filter, nil); err != nil || len(deleted) > 0 && time.Now().Before(end.Add(2*time.Second)) {
					t.Fatalf("%d keys are deleted too early, or %v", len(deleted), err)
				} else if len(deleted) > 0 {
					break
				}
			}
			_, err := s.DeleteKeys(t.Context(), filter, recorded(store.AuditRevoked, sealer{}))
			must(t, err)
			there(t, s, map[store.ID]bool{keys[0].ID: false, keys[1].ID: true, keys[2].ID: true, next.ID: true})
		},
	})
}

func isInvalid(field string) func(error) bool {
	return func(err error) bool {
		invalid, ok := errors.AsType[*store.InvalidError](err)
		return ok && invalid.Field == field
	}
}

// generations are a key, and those that came from it: each has rotated itself.
func generations(tb reporter, s store.Store, n int) []store.ID {
	tb.Helper()
	key := create(tb, s, newKey("first"))[0]
	ids := []store.ID{key.ID}
	for range n - 1 {
		key = rotateItself(tb, s, key.ID)
		ids = append(ids, key.ID)
	}
	return ids
}

func testHeirs(t *testing.T, fresh func(tb testing.TB) *Backend) {
	// Each test revokes the first or the second of four generations.
	for name, revoke := range map[string]func(t *testing.T, b *Backend, s store.Store, id store.ID){
		"a key that is deleted": func(t *testing.T, _ *Backend, s store.Store, id store.ID) {
			_, err := s.DeleteKey(t.Context(), id, nil)
			must(t, err)
		},
		"a key that is deleted by SQL": func(t *testing.T, b *Backend, _ store.Store, id store.ID) {
			b.Exec(t, "DELETE FROM system_keys WHERE id = '"+id.String()+"'")
		},
		"a key that was retired before it was revoked": func(t *testing.T, b *Backend, s store.Store, id store.ID) {
			b.Exec(t, "UPDATE system_keys SET expires_at = created_at WHERE id = '"+id.String()+"'")
			keys, err := s.DeleteKeys(t.Context(), &store.KeyFilter{Retired: true}, nil)
			if must(t, err); len(keys) != 1 || keys[0].ID != id {
				t.Fatalf("retired are %v", keys)
			}
			total(t, s, 5)
			if _, err := s.DeleteKey(t.Context(), id, nil); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("DeleteKey = %v", err)
			}
		},
		"many keys that are deleted": func(t *testing.T, b *Backend, s store.Store, id store.ID) {
			b.Exec(t, "UPDATE system_keys SET label = 'this' WHERE id = '"+id.String()+"'")
			keys, err := s.DeleteKeys(t.Context(), &store.KeyFilter{LabelPrefix: "this"}, nil)
			if must(t, err); len(keys) < 3 || !slices.IsSortedFunc(keys, func(a, b *store.Key) int { return slices.Compare(a.ID[:], b.ID[:]) }) {
				t.Errorf("deleted are %v", idsOfKeys(keys))
			}
		},
	} {
		t.Run(name+" takes those with it that come from it", func(t *testing.T) {
			t.Parallel()
			for first := range 2 {
				b := fresh(t)
				s := migrated(t, b)
				ids := generations(t, s, 4)
				other := rotate(t, s, successorOf(create(t, s, newKey("other"))[0].ID, "cli"))
				feed := follow(t, s)
				place := newest(t, feed)
				revoke(t, b, s, ids[first])
				want := map[store.ID]bool{other.Old.ID: true, other.New.ID: true, ids[0]: first == 1}
				for _, id := range ids[first:] {
					want[id] = false
					if !slices.Contains(logged(t, feed, place), entry{store.KeyDeleted, id}) {
						t.Errorf("the deletion of %s is not in the log", id)
					}
				}
				there(t, s, want)
			}
		})
	}
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"each has its record": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			ids := generations(t, s, 3)
			_, err := s.DeleteKey(t.Context(), ids[0], recorded(store.AuditExpired, sealer{}))
			must(t, err)
			events(t, s, store.AuditExpired, store.AuditExpired, store.AuditExpired, store.AuditRevoked, store.AuditRevoked)
		},
		"by SQL each has its record too": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			ids := generations(t, s, 3)
			b.Exec(t, "DELETE FROM system_keys WHERE id = '"+ids[0].String()+"'")
			for _, id := range ids {
				if records := audit(t, s, store.AuditQuery{Key: id}).Records; len(records) == 0 || records[0].Actor.Type != store.ActorSQL {
					t.Errorf("the records of %s are %+v", id, records)
				}
			}
		},
		"to delete a key that has expired ends none": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			ids := generations(t, s, 3)
			b.Exec(t, "UPDATE system_keys SET expires_at = created_at WHERE id = '"+ids[0].String()+"'")
			b.Exec(t, "DELETE FROM system_keys WHERE id = '"+ids[0].String()+"'")
			there(t, s, map[store.ID]bool{ids[0]: false, ids[1]: true, ids[2]: true})
			// To revoke it after that does.
			if _, err := s.DeleteKey(t.Context(), ids[0], nil); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("DeleteKey = %v", err)
			}
			there(t, s, map[store.ID]bool{ids[1]: false, ids[2]: false})
		},
		"a key that is kept is not made to come from nobody": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			ids := generations(t, s, 3)
			b.Exec(t, "UPDATE system_keys SET label = 'this' WHERE id = '"+ids[1].String()+"'")
			for _, c := range []struct {
				prefix string
				kept   store.ID
			}{{"first", ids[1]}, {"this", ids[2]}} {
				filter := &store.KeyFilter{LabelPrefix: c.prefix, Except: []store.ID{c.kept}}
				if _, err := s.DeleteKeys(t.Context(), filter, nil); !isInvalid("except")(err) {
					t.Errorf("DeleteKeys = %v", err)
				}
			}
			there(t, s, map[store.ID]bool{ids[0]: true, ids[1]: true, ids[2]: true})
			filter := &store.KeyFilter{LabelPrefix: "this"}
			matched, err := s.MatchKeys(t.Context(), filter)
			must(t, err)
			deleted, err := s.DeleteKeys(t.Context(), filter, nil)
			if must(t, err); len(deleted) != 2 || !slices.Equal(idsOfKeys(matched), idsOfKeys(deleted)) {
				t.Errorf("%v match, and %v were deleted", idsOfKeys(matched), idsOfKeys(deleted))
			}
		},
		"a key in its grace ends nothing of what came of it": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			ids := generations(t, s, 2)
			use(t, s, ids[1])
			at := successorOf(ids[1], ids[1].String())
			at.Now = true
			next := rotate(t, s, at).New
			use(t, s, next.ID)
			for range 2 {
				_, err := s.RotateKey(t.Context(), successorOf(ids[0], ids[0].String()), nil)
				if replaced, ok := errors.AsType[*store.ReplacedError](err); !ok || replaced.By != next.ID {
					t.Errorf("once the successor was replaced at once: %v", err)
				}
				there(t, s, map[store.ID]bool{ids[0]: true, next.ID: true})
				// The same if the next key is retired.
				last := rotateItself(t, s, next.ID)
				use(t, s, last.ID)
				b.Exec(t, "UPDATE system_keys SET expires_at = created_at WHERE id = '"+next.ID.String()+"'")
				filter := &store.KeyFilter{Retired: true}
				matched, err := s.MatchKeys(t.Context(), filter)
				must(t, err)
				deleted, err := s.DeleteKeys(t.Context(), filter, nil)
				if must(t, err); len(deleted) == 0 || !slices.Equal(idsOfKeys(matched), idsOfKeys(deleted)) {
					t.Errorf("%v match, and %v were deleted", idsOfKeys(matched), idsOfKeys(deleted))
				}
				there(t, s, map[store.ID]bool{next.ID: false})
				next = last
			}
			// What was revoked is no successor.
			_, err := s.DeleteKey(t.Context(), next.ID, nil)
			must(t, err)
			rotate(t, s, successorOf(ids[0], "cli"))
		},
		"a key that is kept, and whose ancestors do not match, comes from them still": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			ids := generations(t, s, 2)
			create(t, s, newKey("another"))
			_, err := s.DeleteKeys(t.Context(), &store.KeyFilter{LabelPrefix: "another", Except: []store.ID{ids[1]}}, nil)
			must(t, err)
			if kept := read(t, s, ids[1]); !slices.Equal(kept.Ancestors, ids[:1]) {
				t.Errorf("the key comes from %v", kept.Ancestors)
			}
		},
		"a key that is revoked while it rotates itself leaves nothing": func(t *testing.T, b *Backend) {
			one, other := migrated(t, b), migrated(t, b)
			for range 20 {
				ids := generations(t, one, 2)
				var group errgroup.Group
				group.Go(func() error {
					_, err := other.RotateKey(t.Context(), successorOf(ids[1], ids[1].String()), nil)
					if errors.Is(err, store.ErrNotFound) {
						return nil
					}
					return err
				})
				revoked := rand.N(2)
				_, err := one.DeleteKey(t.Context(), ids[revoked], nil)
				must(t, err)
				must(t, group.Wait())
				total(t, one, revoked) // what is left is what it came from
				_, err = one.DeleteKey(t.Context(), ids[0], nil)
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					t.Fatal(err)
				}
				total(t, one, 0)
			}
		},
		"a key that has too many ancestors does not rotate itself": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			old := newKey("old")
			for range 4096 {
				old.Ancestors = append(old.Ancestors, newID())
			}
			create(t, s, old)
			if _, err := s.RotateKey(t.Context(), successorOf(old.ID, old.ID.String()), nil); !isInvalid("id")(err) {
				t.Errorf("RotateKey = %v", err)
			}
			if next := rotate(t, s, successorOf(old.ID, "cli")).New; next.Ancestors != nil {
				t.Errorf("the successor has %d ancestors", len(next.Ancestors))
			}
		},
	})
}
