package coherence

import (
	"sync"
	"sync/atomic"
	"time"
)

// LeaseState is what an instance may do at a moment, by its lease.
type LeaseState uint8

const (
	// None: nothing may be accepted.
	LeaseNone LeaseState = iota
	// Direct: a request may be accepted on a row that was read for this request alone.
	// Memory may not be trusted, because the database does not log every change.
	LeaseDirect
	// Cached: memory may be trusted.
	LeaseCached
)

// maxStepBack is how much the wall clock may lose against the monotonic clock under a lease.
// A clock that is adjusted gradually loses half a millisecond in a second.
const maxStepBack = time.Second

// Lease is the right of an instance to trust its memory. It runs out by itself. It is safe
// for concurrent use, and the check takes no lock.
//
// A lease must be in force on the monotonic clock and on the wall clock. On Linux the
// monotonic clock stands still while a machine is suspended, and the wall clock does not.
type Lease struct {
	ttl    time.Duration
	clock  clock
	grant  atomic.Pointer[grant] // nil if there is no lease
	latest atomic.Pointer[grant] // the grant that ends last; stays after a drop
	wanted chan struct{}         // asks the follower for a renewal

	unfollowed atomic.Bool

	mu      sync.Mutex
	onLapse func() // see callOnLapse; nil until then
	timer   *time.Timer
	closed  bool
}

// grant is one extension of the lease. It is immutable.
type grant struct {
	state  LeaseState
	from   instant       // before the turn was sent
	length time.Duration // of the lease
}

// end is when the grant runs out on the monotonic clock.
func (g *grant) end() time.Duration { return g.from.mono + g.length }

// NewLease makes a lease that is not granted yet. An instance never holds a lease for
// longer than 98 % of the ttl in its row. So clocks whose rates differ by one per cent do
// no harm.
func NewLease(ttl time.Duration, now func() time.Time) *Lease {
	return &Lease{ttl: ttl, clock: clockOf(now), wanted: make(chan struct{}, 1)}
}

// State says what may be done now. Now is a reading of the lease's clock.
func (l *Lease) State(now time.Time) LeaseState {
	g := l.grant.Load()
	if g == nil || !g.covers(l.clock.split(now)) {
		return LeaseNone
	}
	return g.state
}

// LeaseStats are figures of a [Lease] at a moment.
type LeaseStats struct {
	State LeaseState
	// TTL is the length of the lease in the instance's row.
	TTL time.Duration
	// Age is how long ago the turn began that has extended the lease last. Remaining is
	// how long the lease is still in force. Both are 0 without a lease.
	Age, Remaining time.Duration
}

// Stats returns the figures.
func (l *Lease) Stats() LeaseStats {
	s := LeaseStats{TTL: l.ttl}
	now := l.clock.split(l.clock.now())
	if g := l.grant.Load(); g != nil && g.covers(now) {
		s.State = g.state
		s.Age = max(now.mono-g.from.mono, now.wall-g.from.wall)
		s.Remaining = g.length - s.Age
	}
	return s
}

// Lapsed reports whether requests in flight must be cut, because the lease has run out or
// was closed. A lease that was dropped has not lapsed until it would have run out: it may
// be granted again before that.
func (l *Lease) Lapsed() bool {
	g := l.latest.Load()
	return g == nil || !g.covers(l.clock.split(l.clock.now()))
}

// sinceGrant returns how long ago the turn began that has extended the lease last, on both
// clocks. Without one it returns zeros.
func (l *Lease) sinceGrant() (mono, wall time.Duration) {
	now, g := l.clock.split(l.clock.now()), l.latest.Load()
	if g == nil {
		return 0, 0
	}
	return now.mono - g.from.mono, now.wall - g.from.wall
}

// covers reports whether the grant is in force at an instant, on both clocks.
func (g *grant) covers(at instant) bool {
	mono, wall := at.mono-g.from.mono, at.wall-g.from.wall
	return mono < g.length && wall < g.length && mono-wall <= maxStepBack
}

// Unfollowed reports whether imported keys may not be accepted; see [store.View.Unfollowed].
func (l *Lease) Unfollowed() bool { return l.unfollowed.Load() }

// Want asks for a renewal now, and does not wait for it.
func (l *Lease) Want() {
	select {
	case l.wanted <- struct{}{}:
	default:
	}
}

// extend grants the lease from t0, a reading of the clock from before the turn was sent.
func (l *Lease) extend(t0 time.Time, state LeaseState) {
	from := l.clock.split(t0)
	g := &grant{state: state, from: from, length: l.ttl * 98 / 100}
	now := l.clock.split(l.clock.now()).mono
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if old := l.grant.Load(); old != nil && old.state == state && old.end() > g.end() {
		return // the answer of an older turn has come later
	}
	l.grant.Store(g)
	if latest := l.latest.Load(); latest == nil || latest.end() <= g.end() {
		l.latest.Store(g)
	}
	l.startTimer(now)
}

// drop ends the lease now. Requests in flight are cut when the lease would have run out,
// unless there is a new grant by then.
func (l *Lease) drop() { l.grant.Store(nil) }

// downgrade takes back the right to trust memory. The rest of the lease stays in force.
func (l *Lease) downgrade() {
	l.mu.Lock() // so that no extension comes in between
	defer l.mu.Unlock()
	if g := l.grant.Load(); g != nil {
		l.grant.Store(&grant{state: LeaseDirect, from: g.from, length: g.length})
	}
}

// close ends the lease. It cannot be granted again.
func (l *Lease) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.grant.Store(nil)
	l.latest.Store(nil)
	if l.timer != nil {
		l.timer.Stop()
	}
}

// callOnLapse makes the lease call onLapse each time it runs out, in a goroutine of its own.
func (l *Lease) callOnLapse(onLapse func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onLapse = onLapse
}

// startTimer sets the timer to the end of the lease. The caller holds the lock.
func (l *Lease) startTimer(now time.Duration) {
	if l.onLapse == nil {
		return
	}
	left := l.latest.Load().end() - now
	if l.timer == nil {
		l.timer = time.AfterFunc(left, l.timerFired)
		return
	}
	l.timer.Reset(left)
}

// timerFired calls onLapse if the lease has run out.
func (l *Lease) timerFired() {
	now := l.clock.split(l.clock.now()).mono
	l.mu.Lock()
	onLapse := l.onLapse
	switch {
	case l.closed:
		onLapse = nil
	case now < l.latest.Load().end():
		l.startTimer(now) // extended meanwhile, or the timer's clock is ahead of the lease's
		onLapse = nil
	}
	l.mu.Unlock()
	if onLapse != nil {
		onLapse()
	}
}

// instant is one reading of both clocks.
type instant struct {
	mono time.Duration // since an arbitrary moment
	wall time.Duration // since the Unix epoch
}

// clock reads the time, and splits a reading into both clocks. Tests move the clocks apart.
type clock struct {
	now   func() time.Time
	split func(time.Time) instant
}

// clockOf makes a clock. The readings of now must carry the monotonic clock, as those of
// [time.Now] do.
func clockOf(now func() time.Time) clock {
	base := now()
	return clock{now: now, split: func(t time.Time) instant {
		return instant{mono: t.Sub(base), wall: time.Duration(t.UnixNano())}
	}}
}
