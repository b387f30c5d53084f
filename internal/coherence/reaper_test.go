package coherence

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// reap has the reaper look once. The answer takes so long.
func (f *fixture) reap(takes time.Duration, members ...store.Member) []store.Member {
	f.stub.reaped = nil
	f.stub.progress = func() (*store.Progress, error) {
		f.clock.advance(takes)
		return &store.Progress{Members: members}, nil
	}
	f.reaper.round(context.Background(), slog.New(slog.DiscardHandler))
	return f.stub.reaped
}

func TestReaperRemovesWhoIsSilentForAWholeTTL(t *testing.T) {
	f := newFixture(t)
	m := store.Member{ID: testID(1), TTL: testTTL, Heartbeat: 7}
	for _, wait := range []time.Duration{0, testTTL / 2, testTTL/2 - 1} {
		f.clock.advance(wait)
		if got := f.reap(0, m); len(got) != 0 {
			t.Fatalf("%v were removed early", got)
		}
	}
	f.clock.advance(1)
	if got := f.reap(0, m); !slices.Equal(got, []store.Member{{ID: m.ID, Heartbeat: 7}}) {
		t.Errorf("%v were removed", got)
	}
}

func TestReaperStartsAgainAtEveryBeat(t *testing.T) {
	f := newFixture(t)
	m := store.Member{ID: testID(1), TTL: testTTL}
	for heartbeat := range int64(5) {
		m.Heartbeat = heartbeat
		if got := f.reap(0, m); len(got) != 0 {
			t.Fatalf("a live member was removed at heartbeat %d", heartbeat)
		}
		f.clock.advance(testTTL - 1)
	}
}

func TestReaperForgetsWhoWasAway(t *testing.T) {
	f := newFixture(t)
	m := store.Member{ID: testID(1), TTL: testTTL, Heartbeat: 7}
	f.reap(0, m)
	f.clock.advance(testTTL)
	f.reap(0) // gone
	if got := f.reap(0, m); len(got) != 0 {
		t.Error("it is back, and was removed on an old sighting")
	}
}

// A renewal may be committed while the answer is on its way, after its snapshot:
// what the reaper has seen is as old as the answer allows.
func TestReaperCountsFromTheAnswer(t *testing.T) {
	f := newFixture(t)
	m := store.Member{ID: testID(1), TTL: testTTL, Heartbeat: 7}
	f.reap(testTTL*9/10, m)
	f.clock.advance(testTTL / 5)
	if got := f.reap(0, m); len(got) != 0 {
		t.Error("the time before the answer was counted as silence")
	}
}

func TestReaperUsesEachMembersTTL(t *testing.T) {
	f := newFixture(t)
	short := store.Member{ID: testID(1), TTL: testTTL / 4, Heartbeat: 1}
	long := store.Member{ID: testID(2), TTL: testTTL, Heartbeat: 2}
	f.reap(0, short, long)
	f.clock.advance(testTTL / 2)
	if got := f.reap(0, short, long); !slices.Equal(got, []store.Member{{ID: short.ID, Heartbeat: 1}}) {
		t.Errorf("%v were removed", got)
	}
	if f.history.longestTTL() != testTTL {
		t.Errorf("the longest ttl is %v", f.history.longestTTL())
	}
}
