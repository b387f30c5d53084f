package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// join makes a member, and returns its id.
func join(tb testing.TB, feed store.Feed) store.ID {
	tb.Helper()
	id := newKey("").ID
	must(tb, feed.Join(tb.Context(), &store.Member{ID: id, Name: "test", TTL: time.Minute}))
	return id
}

func renew(tb testing.TB, feed store.Feed, turn store.Turn) *store.View {
	tb.Helper()
	turn.Limit = max(1, turn.Limit)
	view, err := feed.Renew(tb.Context(), &turn)
	must(tb, err)
	return view
}

func progress(tb testing.TB, s store.Store, keys ...store.ID) *store.Progress {
	tb.Helper()
	p, err := s.Progress(tb.Context(), keys, nil)
	must(tb, err)
	return p
}

// only returns the one member that there is.
func only(tb testing.TB, s store.Store) store.Member {
	tb.Helper()
	p := progress(tb, s)
	if len(p.Members) != 1 {
		tb.Fatalf("%d members, want one", len(p.Members))
	}
	return p.Members[0]
}

func testTurns(t *testing.T, fresh func(tb testing.TB) *Backend) {
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"who is not a member is told so, and nothing is written": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			feed := follow(t, s)
			head := pull(t, feed, store.Position{}).Head
			view := renew(t, feed, store.Turn{Member: newKey("").ID, Applied: head})
			if view.Member || !view.InLog {
				t.Errorf("got %+v", view)
			}
			if n := len(progress(t, s).Members); n != 0 {
				t.Errorf("%d members", n)
			}
		},
		"every turn has a new heartbeat": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			feed := follow(t, s)
			id := join(t, feed)
			seen := map[int64]bool{only(t, s).Heartbeat: true}
			for range 5 {
				if !renew(t, feed, store.Turn{Member: id}).Member {
					t.Fatal("is no member")
				}
				heartbeat := only(t, s).Heartbeat
				if seen[heartbeat] {
					t.Error("the same heartbeat twice")
				}
				seen[heartbeat] = true
			}
			before := only(t, s)
			pull(t, feed, store.Position{})
			if diff := cmp.Diff(before, only(t, s)); diff != "" {
				t.Errorf("to pull has written: %s", diff)
			}
		},
		"a turn shows whether keys have expired before a time": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			feed := follow(t, s)
			me := join(t, feed)
			key := newKey("ends")
			key.ExpiresAt = epoch
			create(t, s, newKey("stays"), key)
			for before, want := range map[time.Time]bool{{}: false, epoch: false, epoch.Add(time.Microsecond): true} {
				if got := renew(t, feed, store.Turn{Member: me, ExpiredBefore: before}).Expired; got != want {
					t.Errorf("before %v: %t", before, got)
				}
			}
			_, err := s.DeleteKey(t.Context(), key.ID, nil)
			must(t, err)
			if renew(t, feed, store.Turn{Member: me, ExpiredBefore: epoch.Add(time.Hour)}).Expired {
				t.Error("an expired key is there after it was deleted")
			}
		},
		"a turn shows who else is silent, and the longest ttl": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			feed := follow(t, s)
			me, other := join(t, feed), newKey("").ID // me has a minute
			must(t, feed.Join(t.Context(), &store.Member{ID: other, Name: "other", TTL: store.MinTTL}))
			view := renew(t, feed, store.Turn{Member: me})
			for began := time.Now(); len(view.Silent) == 0; view = renew(t, feed, store.Turn{Member: me}) {
				if time.Since(began) > 30*time.Second {
					t.Fatal("the other never is")
				}
				time.Sleep(10 * time.Millisecond)
			}
			silent := view.Silent[0]
			if len(view.Silent) != 1 || silent.ID != other || silent.Name != "other" || silent.TTL != store.MinTTL || view.LongestTTL != time.Minute {
				t.Errorf("got %+v and %v", view.Silent, view.LongestTTL)
			}
			if reaped, err := s.Reap(t.Context(), other, silent.Heartbeat); !reaped || err != nil {
				t.Errorf("its heartbeat is another: %v, %v", reaped, err)
			}
		},
		"a turn shows whether records wait for a seal": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			feed := follow(t, s)
			me := join(t, feed)
			write := func(actor string, at time.Time) {
				r := store.AuditRecord{Event: store.AuditCreated, At: at, Actor: store.AuditActor{Type: actor, ID: "test"}}.Clean()
				must(t, s.AppendAudit(t.Context(), store.SharedChain, []store.AuditRecord{r}, nil))
			}
			shown := func(when string, want bool) {
				t.Helper()
				if got := renew(t, feed, store.Turn{Member: me}).Unsealed; got != want {
					t.Errorf("%s: %v", when, got)
				}
			}
			shown("without records", false)
			write(store.ActorServer, time.Now().Add(-time.Hour)) // somebody else's forgery
			shown("with one that is not sealed", false)
			for _, at := range []time.Duration{-time.Hour, -5 * time.Second, time.Hour} {
				write(store.ActorCLI, time.Now().Add(at))
				shown("with one of the command line", true)
				if n, err := s.SealAudit(t.Context(), 10, sealer{}); n != 1 || err != nil {
					t.Fatalf("%d were sealed: %v", n, err)
				}
				shown("when it is sealed", false)
			}
		},
		"who is silent by itself is not shown": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			feed := follow(t, s)
			me := newKey("").ID
			must(t, feed.Join(t.Context(), &store.Member{ID: me, TTL: store.MinTTL}))
			time.Sleep(store.MinTTL / 2) // longer is as good
			if view := renew(t, feed, store.Turn{Member: me}); len(view.Silent) != 0 || view.LongestTTL != store.MinTTL {
				t.Errorf("got %+v and %v", view.Silent, view.LongestTTL)
			}
		},
		"applied is raised by a place in the log, and never lowered": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			feed := follow(t, s)
			id := join(t, feed)
			first := pull(t, feed, store.Position{}).Head
			_, err := s.Barrier(t.Context())
			must(t, err)
			second := pull(t, feed, first).Head
			for _, step := range []struct {
				name    string
				applied store.Position
				inLog   bool
				want    int64
			}{
				{"at the start", store.Position{}, false, 0},
				{"another history", store.Position{Rev: second.Rev, Tag: second.Tag + 1}, false, 0},
				{"the future", store.Position{Rev: second.Rev + 1, Tag: second.Tag}, false, 0},
				{"the head", second, true, second.Rev},
				{"a turn that is late", first, true, second.Rev},
				{"another history, later", store.Position{Rev: second.Rev, Tag: second.Tag + 1}, false, second.Rev},
			} {
				view := renew(t, feed, store.Turn{Member: id, Applied: step.applied})
				if view.InLog != step.inLog || !view.Member || view.Head != second {
					t.Errorf("%s: %+v", step.name, view)
				}
				if !step.inLog && len(view.Changes) != 0 {
					t.Errorf("%s: changes of another history: %v", step.name, view.Changes)
				}
				if got := only(t, s).Applied; got != step.want {
					t.Errorf("%s: applied is %d, want %d", step.name, got, step.want)
				}
			}
		},
		"the rest comes with the next turn": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			feed := follow(t, s)
			id := join(t, feed)
			place := pull(t, feed, store.Position{}).Head
			for range 5 {
				_, err := s.Barrier(t.Context())
				must(t, err)
			}
			for _, want := range []int{2, 2, 1, 0} {
				view := renew(t, feed, store.Turn{Member: id, Applied: place, Limit: 2})
				if len(view.Changes) != want {
					t.Fatalf("%d changes, want %d", len(view.Changes), want)
				}
				if want > 0 {
					place = view.Changes[want-1].Position
				}
			}
		},
		"a place that was pruned is not in the log": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			feed := follow(t, s)
			first := pull(t, feed, store.Position{}).Head
			for range 4 {
				_, err := s.Barrier(t.Context())
				must(t, err)
			}
			must(t, s.Prune(t.Context(), 2))
			head := pull(t, feed, first).Head
			view := pull(t, feed, first)
			if view.InLog || len(view.Changes) != 0 || head.Rev != first.Rev+4 {
				t.Errorf("got %+v", view)
			}
			for range 2 {
				must(t, s.Prune(t.Context(), 0))
				if view := pull(t, feed, head); !view.InLog || view.Head != head {
					t.Errorf("the newest entry was pruned: %+v", view)
				}
			}
			rev, err := s.Barrier(t.Context())
			must(t, err)
			if rev != head.Rev+1 {
				t.Errorf("the next is %d after %d", rev, head.Rev)
			}
		},
		"how many requests were cut": func(t *testing.T, b *Backend) { testCuts(t, b) },
	})
}

func testCuts(t *testing.T, b *Backend) {
	s := migrated(t, b)
	feed := follow(t, s)
	one, two := join(t, feed), join(t, feed)
	place := pull(t, feed, store.Position{}).Head
	keys := create(t, s, newKey("a"), newKey("b"))
	var revs []int64
	for _, key := range keys {
		_, err := s.DeleteKey(t.Context(), key.ID, nil)
		must(t, err)
		revs = append(revs, pull(t, feed, place).Head.Rev)
	}
	for range 2 { // the same again changes nothing
		renew(t, feed, store.Turn{Member: one, Cuts: []store.Cut{{Rev: revs[0], Requests: 3}, {Rev: revs[1], Requests: 1}}})
	}
	renew(t, feed, store.Turn{Member: two, Cuts: []store.Cut{{Rev: revs[0], Requests: 4}}})
	renew(t, feed, store.Turn{Member: newKey("").ID, Cuts: []store.Cut{{Rev: revs[0], Requests: 100}}}) // is no member
	renew(t, feed, store.Turn{Member: two, Cuts: []store.Cut{{Rev: revs[1] + 1000, Requests: 1}}})      // is not in the log
	for n, want := range []int{7, 1} {
		if got := progress(t, s, keys[n].ID).Cut; got != want {
			t.Errorf("%d requests were cut, want %d", got, want)
		}
	}
	if got := progress(t, s, keys[0].ID, keys[1].ID, newKey("").ID).Cut; got != 8 {
		t.Errorf("%d requests of both keys were cut, want 8", got)
	}
	must(t, s.Prune(t.Context(), 1))
	if got := progress(t, s, keys[0].ID).Cut; got != 0 {
		t.Errorf("%d requests were cut by a change that nobody remembers", got)
	}
}

func testMembers(t *testing.T, fresh func(tb testing.TB) *Backend) {
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"who joins is a member, in order": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			feed := follow(t, s)
			var want []store.ID
			for range 3 {
				want = append(want, join(t, feed))
			}
			var got []store.ID
			for _, m := range progress(t, s).Members {
				got = append(got, m.ID)
				if m.Name != "test" || m.TTL != time.Minute || m.Applied != 0 || m.JoinedAt.IsZero() || m.SeenAt.IsZero() {
					t.Errorf("got %+v", m)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			err := feed.Join(t.Context(), &store.Member{ID: want[0], Name: "again", TTL: time.Minute})
			if !errors.Is(err, store.ErrConflict) {
				t.Errorf("the same id again: %v", err)
			}
		},
		"whoever waits for some of the members sees no others": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			feed := follow(t, s)
			one, _, three := join(t, feed), join(t, feed), join(t, feed)
			for _, awaited := range [][]store.ID{{one, three}, {three}, {}} {
				p, err := s.Progress(t.Context(), nil, append(awaited, newKey("").ID))
				must(t, err)
				var got []store.ID
				for _, m := range p.Members {
					got = append(got, m.ID)
				}
				if !slices.Equal(got, awaited) || p.Head.Rev == 0 || !p.Watched {
					t.Errorf("awaited %v: got %+v", awaited, p)
				}
			}
			p, err := s.Progress(t.Context(), nil, []store.ID{})
			must(t, err)
			if len(p.Members) != 0 || !p.Watched {
				t.Errorf("awaited none: got %+v", p)
			}
		},
		"a ttl has its bounds, and a name what can be kept of it": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			feed := follow(t, s)
			for _, ttl := range []time.Duration{0, store.MinTTL - 1, store.MaxTTL + time.Millisecond, time.Second + 1} {
				err := feed.Join(t.Context(), &store.Member{ID: newKey("").ID, TTL: ttl})
				if invalid, ok := errors.AsType[*store.InvalidError](err); !ok || invalid.Field != "ttl" {
					t.Errorf("%v: %v", ttl, err)
				}
			}
			id := newKey("").ID
			must(t, feed.Join(t.Context(), &store.Member{ID: id, TTL: store.MinTTL, Name: "a\x00b\xff\nc"}))
			if got := only(t, s); got.Name != "abc" || got.TTL != store.MinTTL {
				t.Errorf("got %+v", got)
			}
		},
		"who leaves is none any more": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			feed := follow(t, s)
			one, two := join(t, feed), join(t, feed)
			for range 2 {
				must(t, s.Leave(t.Context(), one))
			}
			if got := only(t, s); got.ID != two {
				t.Errorf("%v is left", got.ID)
			}
		},
		"who has renewed is not removed": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			feed := follow(t, s)
			id := join(t, feed)
			old := only(t, s).Heartbeat
			renew(t, feed, store.Turn{Member: id})
			if reaped, err := s.Reap(t.Context(), id, old); reaped || err != nil {
				t.Errorf("by its old heartbeat: %v, %v", reaped, err)
			}
			if reaped, err := s.Reap(t.Context(), id, only(t, s).Heartbeat); !reaped || err != nil {
				t.Errorf("by its own heartbeat: %v, %v", reaped, err)
			}
			if view := renew(t, feed, store.Turn{Member: id}); view.Member {
				t.Error("is a member still")
			}
		},
		"a barrier is behind everything": func(t *testing.T, b *Backend) {
			s, other := migrated(t, b), open(t, b)
			feed := follow(t, s)
			key := create(t, s, newKey("before"))[0]
			head := newest(t, feed)
			_, err := other.DeleteKey(t.Context(), key.ID, nil)
			must(t, err)
			rev, err := s.Barrier(t.Context())
			must(t, err)
			want := []entry{{store.KeyDeleted, key.ID}, {store.Barrier, store.ID{}}}
			if diff := cmp.Diff(want, logged(t, feed, head)); diff != "" {
				t.Error(diff)
			}
			if p := progress(t, s); p.Head.Rev != rev || !p.Watched || p.Origin != pull(t, feed, head).Origin {
				t.Errorf("got %+v, and the barrier is at %d", p, rev)
			}
		},
	})
}
