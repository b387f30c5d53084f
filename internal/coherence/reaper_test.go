package coherence

import (
	"slices"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// look takes a turn whose view has these members as silent. The answer takes so long. It
// returns who was removed.
func (f *fixture) look(t *testing.T, takes time.Duration, members ...store.Member) []store.Member {
	t.Helper()
	f.stub.reaped = nil
	f.stub.renew = func(*store.Turn) (*store.View, error) {
		f.clock.advance(takes)
		view := calm(1)
		view.Silent = members
		for _, m := range members {
			view.LongestTTL = max(view.LongestTTL, m.TTL)
		}
		return view, nil
	}
	if _, err := f.renew(t.Context(), f.stub); err != nil {
		t.Fatal(err)
	}
	f.ended.Wait()
	return f.stub.reaped
}

func TestReaperRemovesWhoIsSilentForAWholeTTL(t *testing.T) {
	f := newFixture(t)
	m := store.Member{ID: testID(1), TTL: testTTL, Heartbeat: 7}
	for _, wait := range []time.Duration{0, testTTL / 2, testTTL/2 - 1} {
		f.clock.advance(wait)
		if got := f.look(t, 0, m); len(got) != 0 {
			t.Fatalf("%v were removed early", got)
		}
	}
	f.clock.advance(1)
	if got := f.look(t, 0, m); !slices.Equal(got, []store.Member{{ID: m.ID, Heartbeat: 7}}) {
		t.Errorf("%v were removed", got)
	}
}

func TestReaperStartsAgainAtEveryBeat(t *testing.T) {
	f := newFixture(t)
	m := store.Member{ID: testID(1), TTL: testTTL}
	for heartbeat := range int64(5) {
		m.Heartbeat = heartbeat
		if got := f.look(t, 0, m); len(got) != 0 {
			t.Fatalf("a live member was removed at heartbeat %d", heartbeat)
		}
		f.clock.advance(testTTL - 1)
	}
}

func TestReaperForgetsWhoWasAway(t *testing.T) {
	f := newFixture(t)
	m := store.Member{ID: testID(1), TTL: testTTL, Heartbeat: 7}
	f.look(t, 0, m)
	f.clock.advance(testTTL)
	f.look(t, 0) // gone
	if got := f.look(t, 0, m); len(got) != 0 {
		t.Error("it is back, and was removed on an old sighting")
	}
}

// A renewal may be committed while the answer is on its way, after its snapshot:
// what the reaper has seen is as old as the answer allows.
func TestReaperCountsFromTheAnswer(t *testing.T) {
	f := newFixture(t)
	m := store.Member{ID: testID(1), TTL: testTTL, Heartbeat: 7}
	f.look(t, testTTL*9/10, m)
	f.clock.advance(testTTL / 5)
	if got := f.look(t, 0, m); len(got) != 0 {
		t.Error("the time before the answer was counted as silence")
	}
}

func TestReaperUsesEachMembersTTL(t *testing.T) {
	f := newFixture(t)
	short := store.Member{ID: testID(1), TTL: testTTL / 4, Heartbeat: 1}
	long := store.Member{ID: testID(2), TTL: 2 * testTTL, Heartbeat: 2}
	f.look(t, 0, short, long)
	f.clock.advance(testTTL / 2)
	if got := f.look(t, 0, short, long); !slices.Equal(got, []store.Member{{ID: short.ID, Heartbeat: 1}}) {
		t.Errorf("%v were removed", got)
	}
	if f.history.longestTTL() != 2*testTTL {
		t.Errorf("the longest ttl is %v", f.history.longestTTL())
	}
}

func TestTheLogIsPrunedOnceItHasGrown(t *testing.T) {
	f := newFixture(t)
	for _, step := range []struct{ head, want int64 }{
		{1, 0},
		{pruneEvery - 1, 0},
		{pruneEvery, 1},
		{2*pruneEvery - 1, 1},
		{5 * pruneEvery, 2},
		{5, 3}, // in another history
		{5, 3},
		{5 + pruneEvery, 4},
	} {
		f.mustRenew(t, calm(step.head))
		f.ended.Wait()
		if got := f.stub.pruned.Load(); got != step.want {
			t.Errorf("at the head %d the log was pruned %d times, want %d", step.head, got, step.want)
		}
	}
}

func TestAViewWithExpiredKeysHasThemDeleted(t *testing.T) {
	f := newFixture(t)
	before, calls := f.clock.now(), 0
	f.config.ExpiredBefore = func() time.Time { return before }
	f.config.Expired = func() { calls++ }
	for n, expired := range []bool{false, true, true, false} {
		view := calm(1)
		view.Expired = expired
		f.mustRenew(t, view)
		if want := []int{0, 1, 2, 2}[n]; calls != want {
			t.Errorf("after view %d: %d calls", n, calls)
		}
	}
	if got := f.newTurn().ExpiredBefore; !got.Equal(before) {
		t.Errorf("a turn asks for keys that have expired before %v", got)
	}
}
