package coherence

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestAnotherHistoryIsUnsettledForTheLongestTTL(t *testing.T) {
	h := newHistory(testTTL)
	h.noteOrigin("one", testEpoch)
	h.noteOrigin("one", testEpoch.Add(time.Second))
	if !h.settledAt().IsZero() {
		t.Error("the same origin is taken for another")
	}
	changed := testEpoch.Add(2 * time.Second)
	h.noteOrigin("two", changed)
	h.noteTTL(3 * testTTL) // heard of later
	h.noteTTL(testTTL)
	if want := changed.Add(3 * testTTL); !h.settledAt().Equal(want) {
		t.Errorf("it is settled at %v, not %v", h.settledAt(), want)
	}
	h.noteBreak(changed.Add(time.Second))
	if want := changed.Add(time.Second + 3*testTTL); !h.settledAt().Equal(want) {
		t.Errorf("after a break it is settled at %v, not %v", h.settledAt(), want)
	}
}

// TestSinceWhenRevocationsMayBeLostIsSaid has a standby be promoted that is two changes
// behind.
func TestSinceWhenRevocationsMayBeLostIsSaid(t *testing.T) {
	f := newFixture(t)
	var log bytes.Buffer
	f.config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	f.settle(t, 1)
	var untilThree time.Time
	for rev := int64(2); rev <= 5; rev++ {
		f.clock.advance(time.Second)
		view := calm(rev)
		view.Changes = []store.Change{{Position: at(rev), Kind: store.KeyDeleted, Key: testID(byte(rev))}}
		f.mustRenew(t, view)
		if rev == 3 {
			f.clock.advance(time.Second)
			f.mustRenew(t, calm(rev)) // nothing came after 3 by then
			untilThree = f.clock.now()
		}
	}
	f.clock.advance(time.Minute)
	f.stub.renew = func(turn *store.Turn) (*store.View, error) {
		view := calm(3)
		view.Origin, view.InLog = "promoted", turn.Applied == (store.Position{}) || turn.Applied.Rev <= 3
		return view, nil
	}
	if again, err := f.renew(t.Context(), f.stub); err != nil || !again {
		t.Fatal(again, err)
	}
	want := "may be lost: list the keys, and revoke again what should be gone\" since=" + untilThree.UTC().Format(time.RFC3339)
	if said := log.String(); strings.Count(said, "another history") != 1 || !strings.Contains(said, want) {
		t.Errorf("the log says\n%s\nand not once %s", said, want)
	}
	if f.Place().Applied != at(3) || f.cache.all == 0 {
		t.Errorf("the place is %v, after %d times that all was forgotten", f.Place().Applied, f.cache.all)
	}

	// A backup from before anything that is remembered.
	log.Reset()
	f.stub.renew = func(turn *store.Turn) (*store.View, error) {
		view := calm(1)
		view.Head.Tag, view.InLog = 77, turn.Applied.Tag == 77
		return view, nil
	}
	if _, err := f.renew(t.Context(), f.stub); err != nil {
		t.Fatal(err)
	}
	if said := log.String(); !strings.Contains(said, "since=\"before this instance remembers\"") {
		t.Errorf("the log says\n%s", said)
	}
}
