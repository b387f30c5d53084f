package coherence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestLeaseCountsFromBeforeTheTurnWasSent(t *testing.T) {
	f := newFixture(t)
	f.settle(t, 1)
	f.stub.renew = func(*store.Turn) (*store.View, error) {
		f.clock.advance(testTTL / 2) // the answer is late
		return calm(1), nil
	}
	if _, err := f.renew(t.Context(), f.stub); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(testTTL*98/100 - testTTL/2)
	if f.state() != LeaseNone {
		t.Error("the lease counts from the answer")
	}
}

func TestAnswerLaterThanALease(t *testing.T) {
	f := newFixture(t)
	f.settle(t, 1)
	f.stub.renew = func(*store.Turn) (*store.View, error) {
		f.clock.advance(testTTL * 3 / 2)
		return calm(1), nil
	}
	if _, err := f.renew(t.Context(), f.stub); err != nil {
		t.Fatal(err)
	}
	if f.state() != LeaseNone {
		t.Error("a lease was granted that has already run out")
	}
}

func TestNoLeaseBeforeAChangeIsApplied(t *testing.T) {
	f := newFixture(t)
	f.settle(t, 1)
	f.clock.advance(testTTL) // run out
	var during []LeaseState
	f.cache.during = func() { during = append(during, f.state()) }
	view := calm(2)
	view.Changes = []store.Change{{Position: at(2), Kind: store.KeyDeleted, Key: testID(1)}}
	if again := f.mustRenew(t, view); !again {
		t.Error("the next turn, which acknowledges, is not due at once")
	}
	if len(during) == 0 || slices.Contains(during, LeaseCached) {
		t.Errorf("while a change was applied the lease state was %v", during)
	}
	if f.state() != LeaseCached {
		t.Error("there is no lease after it was applied")
	}
}

func TestNoLeaseBeforeTheHead(t *testing.T) {
	f := newFixture(t)
	f.settle(t, 1)
	f.clock.advance(testTTL)
	view := calm(3)
	view.Changes = []store.Change{{Position: at(2), Kind: store.Barrier}} // a page that is full
	if again := f.mustRenew(t, view); !again || f.state() != LeaseNone {
		t.Errorf("halfway to the head the lease state is %v, and the next turn is due: %v", f.state(), again)
	}
}

func TestOnlyWhatWasAppliedIsAcknowledged(t *testing.T) {
	f := newFixture(t)
	f.settle(t, 1)
	row := rowOf(7)
	request := f.enter(row)
	down := errors.New("down")
	f.stub.key = func(store.ID) (*store.Key, error) { return nil, down }
	view := calm(3)
	view.Changes = []store.Change{
		{Position: at(2), Kind: store.KeyDeleted, Key: testID(1)},
		{Position: at(3), Kind: store.KeyChanged, Key: row.ID}, // its row cannot be read
	}
	f.stub.renew = func(*store.Turn) (*store.View, error) { return view, nil }
	if _, err := f.renew(t.Context(), f.stub); !errors.Is(err, down) {
		t.Fatalf("the error is %v", err)
	}
	var said store.Turn
	f.stub.renew = func(turn *store.Turn) (*store.View, error) {
		said = *turn
		view.Changes = view.Changes[1:]
		return view, nil
	}
	f.stub.key = nil // now it is gone
	if _, err := f.renew(t.Context(), f.stub); err != nil {
		t.Fatal(err)
	}
	if said.Applied != at(2) {
		t.Errorf("%v is acknowledged; only 2 was applied", said.Applied)
	}
	if f.Place().Applied != at(3) || request.reason() == nil {
		t.Error("the change was not applied when the row could be read again")
	}
}

func TestCutsAreReportedUntilATurnIsAnswered(t *testing.T) {
	f := newFixture(t)
	f.settle(t, 1)
	f.enter(rowOf(1))
	view := calm(2)
	view.Changes = []store.Change{{Position: at(2), Kind: store.KeyDeleted, Key: testID(1)}}
	f.mustRenew(t, view)
	var said [][]store.Cut
	lost := errors.New("lost")
	for _, err := range []error{lost, nil, nil} {
		f.stub.renew = func(turn *store.Turn) (*store.View, error) {
			said = append(said, turn.Cuts)
			return calm(2), err
		}
		_, _ = f.renew(t.Context(), f.stub)
	}
	want := []store.Cut{{Rev: 2, Requests: 1}}
	if !slices.Equal(said[0], want) || !slices.Equal(said[1], want) || len(said[2]) != 0 {
		t.Errorf("the turns reported %v", said)
	}
}

// TestCutsAreReportedBeforeAnInstanceLeaves: an instance may end with the request that it has
// cut.
func TestCutsAreReportedBeforeAnInstanceLeaves(t *testing.T) {
	f := newFixture(t)
	f.settle(t, 1)
	f.enter(rowOf(1))
	ctx, end := context.WithCancel(t.Context())
	f.cache.during = end
	view := calm(2)
	view.Changes = []store.Change{{Position: at(2), Kind: store.KeyDeleted, Key: testID(1)}}
	var said []store.Turn
	f.stub.renew = func(turn *store.Turn) (*store.View, error) {
		said = append(said, *turn)
		return view, nil
	}
	turns := 0
	if err := f.session(ctx, &turns); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if len(said) != 2 || said[1].Applied != at(2) || !slices.Equal(said[1].Cuts, []store.Cut{{Rev: 2, Requests: 1}}) {
		t.Errorf("the turns say %+v", said)
	}
}

func TestRemovedMemberJoinsUnderANewID(t *testing.T) {
	f := newFixture(t)
	var joined []store.ID
	f.stub.join = func(m *store.Member) error {
		joined = append(joined, m.ID)
		return nil
	}
	f.settle(t, 4)
	view := calm(4)
	view.Member = false
	if again := f.mustRenew(t, view); !again || f.state() != LeaseNone {
		t.Fatalf("once removed, the lease state is %v, and it joins at once: %v", f.state(), again)
	}
	all := f.cache.all
	f.mustRenew(t, calm(4))
	if len(joined) != 2 || joined[0] == joined[1] {
		t.Errorf("it joined as %v", joined)
	}
	if f.state() != LeaseCached || f.Place().Applied != at(4) || f.cache.all != all {
		t.Error("it has forgotten what the log kept true")
	}
}

func TestMemoryDoesNotOutliveALapsedLease(t *testing.T) {
	f := newFixture(t)
	f.settle(t, 4)
	f.clock.advance(testTTL)
	all := f.cache.all
	f.mustRenew(t, calm(4))
	if f.cache.all != all+1 || f.state() != LeaseCached {
		t.Errorf("everything was forgotten %d times", f.cache.all-all)
	}
}

func TestJoinComesBeforeTheLogIsRead(t *testing.T) {
	f := newFixture(t)
	var order []string
	f.stub.join = func(*store.Member) error {
		order = append(order, "join")
		return store.ErrConflict // the answer to an attempt before was lost
	}
	f.stub.renew = func(*store.Turn) (*store.View, error) {
		order = append(order, "renew")
		return calm(1), nil
	}
	if _, err := f.renew(t.Context(), f.stub); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(order, []string{"join", "renew"}) {
		t.Errorf("the order is %v", order)
	}
}

func TestLostHistoryIsForgottenAndFlightsAreLookedUp(t *testing.T) {
	f := newFixture(t)
	f.settle(t, 5)
	kept, gone := f.enter(rowOf(1)), f.enter(rowOf(2))
	f.stub.key = func(id store.ID) (*store.Key, error) {
		if f.state() != LeaseNone {
			t.Error("there is a lease while it is looked up who is still there")
		}
		if id == testID(1) {
			return rowOf(1), nil
		}
		return nil, store.ErrNotFound
	}
	view := calm(3)
	view.InLog = false // pruned, or a backup
	all := f.cache.all
	f.mustRenew(t, view)
	if f.cache.all != all+1 || kept.reason() != nil || !errors.Is(gone.reason(), cut.ErrRevoked) {
		t.Errorf("forgotten %d times; kept: %v, gone: %v", f.cache.all-all, kept.reason(), gone.reason())
	}
	if f.state() != LeaseCached || f.Place().Applied != at(3) {
		t.Error("it is not at the head of the new history")
	}
	if f.history.settledAt().Before(f.clock.now()) {
		t.Error("revocations are answered at once, although members may be missing in the new history")
	}
}

func TestStandbyGivesNoLease(t *testing.T) {
	f := newFixture(t)
	f.settle(t, 1)
	f.stub.renew = func(*store.Turn) (*store.View, error) { return &store.View{Standby: true}, nil }
	if _, err := f.renew(t.Context(), f.stub); err == nil || f.state() != LeaseNone {
		t.Errorf("on a standby the lease state is %v, the error %v", f.state(), err)
	}
	f.settleAgain(t, 1)
	f.stub.pull = func(*store.Turn) (*store.View, error) { return &store.View{Standby: true}, nil }
	if err := f.pull(t.Context(), f.stub); err == nil || f.state() != LeaseNone {
		t.Errorf("after a pull from a standby the lease state is %v, the error %v", f.state(), err)
	}
}

func (f *fixture) settleAgain(t *testing.T, rev int64) {
	t.Helper()
	if f.mustRenew(t, calm(rev)); f.state() != LeaseCached {
		t.Fatal("there is no lease")
	}
}

func TestPullNeverExtendsTheLease(t *testing.T) {
	f := newFixture(t)
	f.settle(t, 1)
	f.clock.advance(testTTL)
	f.stub.pull = func(*store.Turn) (*store.View, error) { return calm(1), nil }
	if err := f.pull(t.Context(), f.stub); err != nil || f.state() != LeaseNone {
		t.Errorf("after a pull the lease state is %v, the error %v", f.state(), err)
	}
}

func TestMissingTriggersMakeEveryRequestReadItsKey(t *testing.T) {
	f := newFixture(t)
	f.settle(t, 1)
	gone := f.enter(rowOf(2))
	view := calm(1)
	view.Watched = false
	f.mustRenew(t, view)
	if f.state() != LeaseDirect || gone.reason() == nil {
		t.Errorf("without triggers the lease state is %v, and a request whose key is gone: %v", f.state(), gone.reason())
	}
	f.mustRenew(t, calm(1))
	if f.state() != LeaseCached {
		t.Error("they are back, and nothing is remembered")
	}
}

// TestImportedKeysAreNotTrustedWhileTheirTableIsNotFollowed, and other keys are.
func TestImportedKeysAreNotTrustedWhileTheirTableIsNotFollowed(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		f := newFixture(t)
		f.config.KeepOnLapse = keep
		f.settle(t, 7)
		imported := rowOf(1)
		imported.Foreign, imported.CreatedBy = true, store.Imported
		theirs, ours := f.enter(imported), f.enter(rowOf(2))
		fails := true
		f.stub.key = func(id store.ID) (*store.Key, error) {
			if id == imported.ID {
				if fails {
					return nil, errors.New("the database is away")
				}
				return imported, nil
			}
			return rowOf(2), nil
		}
		// The cache is told after the lease: what is read in between is not remembered.
		before := f.cache.all
		f.cache.during = func() {
			if !f.config.Lease.Unfollowed() {
				t.Error("memory is forgotten before imported keys are refused")
			}
		}
		view := calm(8)
		view.Unfollowed, view.Changes = true, []store.Change{{Position: at(8), Kind: store.Barrier}}
		f.stub.renew = func(*store.Turn) (*store.View, error) { return view, nil }
		// Whoever waits for the barrier must not be told of an instance that has not cut yet.
		if _, err := f.renew(t.Context(), f.stub); err == nil || f.Place().Applied != at(7) {
			t.Errorf("with a row that cannot be read: %v, at %v", err, f.Place().Applied)
		}
		fails = false
		f.mustRenew(t, view)
		if f.Place().Applied != at(8) || f.cache.all == before || f.state() != LeaseCached {
			t.Errorf("at %v, forgotten %d times, the lease state is %v", f.Place().Applied, f.cache.all-before, f.state())
		}
		if (theirs.reason() != nil) == keep || ours.reason() != nil {
			t.Errorf("on_lapse keep is %t: the imported key's request got %v, the other %v", keep, theirs.reason(), ours.reason())
		}
		before = f.cache.all
		view.Changes = nil
		if f.mustRenew(t, view); f.cache.all != before {
			t.Error("memory is forgotten at each turn")
		}
		if f.mustRenew(t, calm(8)); f.config.Lease.Unfollowed() {
			t.Error("imported keys are still refused")
		}
	}
}

func TestWhatAChangeCuts(t *testing.T) {
	soon := testEpoch.Add(time.Second)
	for _, c := range []struct {
		name   string
		kind   store.ChangeKind
		change func(*store.Key)
		want   error
	}{
		{"deleted", store.KeyDeleted, nil, cut.ErrRevoked},
		{"rehashed", store.KeyRehashed, func(k *store.Key) { k.Hash = "another of the same key" }, nil},
		{"relabelled", store.KeyChanged, func(k *store.Key) { k.Label = "another" }, nil},
		{"given a permission", store.KeyChanged, func(k *store.Key) { k.Permissions = []string{"a:read", "b:read", "c:read"} }, nil},
		{"lost a permission", store.KeyChanged, func(k *store.Key) { k.Permissions = []string{"b:read"} }, cut.ErrRevoked},
		{"expired", store.KeyChanged, func(k *store.Key) { k.ExpiresAt = testEpoch }, cut.ErrExpired},
		{"will expire", store.KeyChanged, func(k *store.Key) { k.ExpiresAt = soon }, nil},
		{"another key's hash", store.KeyRekeyed, func(k *store.Key) { k.Hash = "of another" }, cut.ErrRevoked},
		{"the same hash again", store.KeyRekeyed, func(*store.Key) {}, nil},
		{"all changed", store.AllChanged, func(*store.Key) {}, nil},
		{"a barrier", store.Barrier, nil, nil},
		{"keys inserted", store.KeysInserted, nil, nil},
		{"a kind of the future", store.ChangeKind('z'), func(k *store.Key) { k.Permissions = nil }, cut.ErrRevoked},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			f.settle(t, 1)
			flushes := f.cache.all
			row := rowOf(1, "a:read", "b:read")
			request, other := f.enter(row), f.enter(rowOf(2, "a:read"))
			f.stub.key = func(id store.ID) (*store.Key, error) {
				if id != row.ID {
					return rowOf(2, "a:read"), nil
				}
				now := *row
				c.change(&now)
				return &now, nil
			}
			view := calm(2)
			view.Changes = []store.Change{{Position: at(2), Kind: c.kind, Key: row.ID}}
			f.mustRenew(t, view)
			if got := request.reason(); !errors.Is(got, c.want) || (got == nil) != (c.want == nil) {
				t.Errorf("it was cut for %v, not %v", got, c.want)
			}
			if other.reason() != nil {
				t.Errorf("another key's request was cut for %v", other.reason())
			}
			none := c.kind == store.Barrier || c.kind == store.KeysInserted
			if forgot := len(f.cache.keys) > 0 || f.cache.all > flushes; forgot == none {
				t.Errorf("something was forgotten: %v", forgot)
			}
		})
	}
}

func TestNoLeaseOnADatabaseThatWasReplaced(t *testing.T) {
	f := newFixture(t)
	f.settle(t, 1)
	if f.state() != LeaseCached {
		t.Fatal("there is no lease")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	turns := 0
	f.stub.renew = func(*store.Turn) (*store.View, error) {
		if turns++; turns == 2 { // the first has dropped the lease
			cancel()
			close(ended)
		}
		return nil, fmt.Errorf("renew the lease: %w", store.ErrReplaced)
	}
	go f.run(ctx)
	<-ended
	if f.state() != LeaseNone {
		t.Error("what is remembered of a database that was replaced is trusted")
	}
}

// A server that does not say which history it has is followed all the same, and the
// log says once what that means.
func TestAServerWithoutANameIsSaidOnce(t *testing.T) {
	f := newFixture(t)
	var said bytes.Buffer
	f.config.Logger = slog.New(slog.NewTextHandler(&said, nil))
	for rev := range int64(3) {
		view := calm(rev)
		view.Origin, view.InLog = "", rev > 0
		f.mustRenew(t, view)
	}
	if n := strings.Count(said.String(), "does not say which history it has"); n != 1 || f.state() != LeaseCached {
		t.Errorf("it was said %d times, and the lease is %v:\n%s", n, f.state(), &said)
	}
}
