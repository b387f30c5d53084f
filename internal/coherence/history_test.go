package coherence

import (
	"testing"
	"time"
)

func TestAnotherHistoryIsUnsettledForTheLongestTTL(t *testing.T) {
	h := newHistory(testTTL)
	h.see("one", testEpoch)
	h.see("one", testEpoch.Add(time.Second))
	if !h.settled().IsZero() {
		t.Error("the same origin is taken for another")
	}
	changed := testEpoch.Add(2 * time.Second)
	h.see("two", changed)
	h.member(3 * testTTL) // heard of later
	h.member(testTTL)
	if want := changed.Add(3 * testTTL); !h.settled().Equal(want) {
		t.Errorf("it is settled at %v, not %v", h.settled(), want)
	}
	h.broken(changed.Add(time.Second))
	if want := changed.Add(time.Second + 3*testTTL); !h.settled().Equal(want) {
		t.Errorf("after a break it is settled at %v, not %v", h.settled(), want)
	}
}
