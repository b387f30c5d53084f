package coherence

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func newTestLease() (*Lease, *testClock) {
	clock := newTestClock()
	return NewLeaseOn(testTTL, clock.now, clock.split), clock
}

func (c *testClock) wantStanding(t *testing.T, l *Lease, want LeaseState) {
	t.Helper()
	if got := l.State(c.now()); got != want {
		t.Errorf("the lease state is %v, not %v", got, want)
	}
}

func TestLeaseIsShorterThanItsTTL(t *testing.T) {
	l, clock := newTestLease()
	clock.wantStanding(t, l, LeaseNone)
	l.extend(clock.now(), LeaseCached)
	clock.wantStanding(t, l, LeaseCached)
	clock.advance(testTTL*98/100 - 1)
	clock.wantStanding(t, l, LeaseCached)
	if l.Lapsed() {
		t.Error("it has lapsed a nanosecond early")
	}
	clock.advance(1)
	clock.wantStanding(t, l, LeaseNone)
	if !l.Lapsed() {
		t.Error("it has not lapsed")
	}
}

func TestLeaseFromALateAnswer(t *testing.T) {
	l, clock := newTestLease()
	first := clock.now()
	clock.advance(time.Second)
	l.extend(clock.now(), LeaseCached)
	l.extend(first, LeaseCached) // overtaken
	clock.advance(testTTL*98/100 - time.Second/2)
	clock.wantStanding(t, l, LeaseCached)
}

func TestLeaseUnderASuspendedMachine(t *testing.T) {
	// CLOCK_MONOTONIC stands still on Linux while the machine is suspended.
	l, clock := newTestLease()
	l.extend(clock.now(), LeaseCached)
	clock.step(testTTL)
	clock.wantStanding(t, l, LeaseNone)
}

func TestLeaseUnderSteppedWallClocks(t *testing.T) {
	for _, c := range []struct {
		name string
		step time.Duration
		want LeaseState
	}{
		{"an hour ahead", time.Hour, LeaseNone},
		{"an hour back", -time.Hour, LeaseNone},
		{"a slew ahead", 5 * time.Millisecond, LeaseCached},
		{"a slew back", -5 * time.Millisecond, LeaseCached},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, clock := newTestLease()
			l.extend(clock.now(), LeaseCached)
			clock.step(c.step)
			clock.wantStanding(t, l, c.want)
			l.extend(clock.now(), LeaseCached) // the step costs one lease at most
			clock.wantStanding(t, l, LeaseCached)
		})
	}
}

func TestDroppedLeaseHasNotLapsed(t *testing.T) {
	l, clock := newTestLease()
	l.extend(clock.now(), LeaseCached)
	l.drop()
	clock.wantStanding(t, l, LeaseNone)
	if l.Lapsed() {
		t.Error("what it has let through would be cut")
	}
	clock.advance(testTTL)
	if !l.Lapsed() {
		t.Error("it has not lapsed when it would have run out")
	}
}

func TestDirectLeaseEndsWithTheOther(t *testing.T) {
	l, clock := newTestLease()
	l.extend(clock.now(), LeaseCached)
	clock.advance(testTTL / 2)
	l.downgrade()
	clock.wantStanding(t, l, LeaseDirect)
	clock.advance(testTTL / 2)
	clock.wantStanding(t, l, LeaseNone)
}

func TestClosedLeaseIsNotExtended(t *testing.T) {
	l, clock := newTestLease()
	l.extend(clock.now(), LeaseCached)
	l.close()
	if clock.wantStanding(t, l, LeaseNone); !l.Lapsed() {
		t.Error("it has not lapsed")
	}
	l.extend(clock.now(), LeaseCached)
	clock.wantStanding(t, l, LeaseNone)
}

func TestLeaseSaysWhenItLapses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLease(testTTL, time.Now)
		defer l.close()
		began := time.Now()
		var lapses []time.Duration
		l.callOnLapse(func() { lapses = append(lapses, time.Since(began)) })
		l.extend(time.Now(), LeaseCached)
		time.Sleep(testTTL / 2)
		l.extend(time.Now(), LeaseCached)
		time.Sleep(2 * testTTL)
		synctest.Wait()
		if want := testTTL/2 + testTTL*98/100; len(lapses) != 1 || lapses[0] != want {
			t.Errorf("it lapsed after %v, not once after %v", lapses, want)
		}
	})
}

func TestLeaseIsWantedOnce(t *testing.T) {
	l, _ := newTestLease()
	l.Want()
	l.Want() // does not block
	<-l.wanted
	select {
	case <-l.wanted:
		t.Error("it is wanted twice")
	default:
	}
}

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
	l.extend(clock.now(), LeaseCached)
	clock.advance(time.Second)
	want("after a second", LeaseStats{State: LeaseCached, Age: time.Second, Remaining: length - time.Second})
	l.downgrade()
	want("without the triggers", LeaseStats{State: LeaseDirect, Age: time.Second, Remaining: length - time.Second})
	clock.advance(length)
	want("when it has run out", LeaseStats{})
	l.extend(clock.now(), LeaseCached)
	l.drop()
	want("when it was dropped", LeaseStats{})
}
