package coherence

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLeaseStats(t *testing.T) {
	l, clock := newTestLease()
	want := func(when string, want LeaseStats) {
		t.Helper()
		want.TTL = testTTL
		if diff := cmp.Diff(want, l.Stats()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	length := testTTL * 98 / 100
	want("before the first", LeaseStats{})
	l.extend(clock.now(), Cached)
	clock.advance(time.Second)
	want("after a second", LeaseStats{Standing: Cached, Age: time.Second, Remaining: length - time.Second})
	l.direct()
	want("without the triggers", LeaseStats{Standing: Direct, Age: time.Second, Remaining: length - time.Second})
	clock.advance(length)
	want("when it has run out", LeaseStats{})
	l.extend(clock.now(), Cached)
	l.drop()
	want("when it was dropped", LeaseStats{})
}
