package coherence

import (
	"sync"
	"sync/atomic"
	"time"
)

// Standing is what an instance may do at a moment.
type Standing uint8

const (
	// None: nothing may be accepted.
	None Standing = iota
	// Direct: a request may be accepted on a row that was read for it, and on
	// nothing that is remembered. The database does not log every change.
	Direct
	// Cached: what is remembered of a key may be trusted.
	Cached
)

// maxStepBack is how much the wall clock may lose against the monotonic clock
// under a lease. Clocks that are adjusted lose half a millisecond in a second.
const maxStepBack = time.Second

// Lease is the right of an instance to trust its memory. It runs out by itself.
// It is safe for concurrent use; the check takes no lock.
//
// It counts on the monotonic clock, and must not have run out on the wall clock
// either: on Linux the former stands still while a machine is suspended, and the
// latter does not.
type Lease struct {
	ttl    time.Duration
	clock  clock
	grant  atomic.Pointer[grant] // nil: none
	last   atomic.Pointer[grant] // the one that ends last, also after a drop
	wanted chan struct{}

	mu     sync.Mutex
	lapse  func() // see watch; nil until then
	timer  *time.Timer
	closed bool
}

// grant is one extension.
type grant struct {
	standing Standing
	from     instant       // before the turn was sent
	length   time.Duration // of the lease
}

// end is when it runs out on the monotonic clock.
func (g *grant) end() time.Duration { return g.from.mono + g.length }

// NewLease makes a lease that was not granted yet. An instance never holds one
// for longer than 98 % of the ttl in its row, so that clocks whose rates differ
// by one per cent do no harm.
func NewLease(ttl time.Duration, now func() time.Time) *Lease {
	return &Lease{ttl: ttl, clock: clockOf(now), wanted: make(chan struct{}, 1)}
}

// Standing says what may be done at the time given, which is a reading of the
// lease's clock.
func (l *Lease) Standing(now time.Time) Standing {
	g := l.grant.Load()
	if g == nil || !g.covers(l.clock.split(now)) {
		return None
	}
	return g.standing
}

// LeaseStats are figures of a [Lease] at a moment.
type LeaseStats struct {
	Standing Standing
	// TTL is how long the lease is in the instance's row.
	TTL time.Duration
	// Age is how long ago the turn began that has extended it last; 0 without a
	// lease. Remaining is for how long it is in force still.
	Age, Remaining time.Duration
}

// Stats returns the figures.
func (l *Lease) Stats() LeaseStats {
	s := LeaseStats{TTL: l.ttl}
	now := l.clock.split(l.clock.now())
	if g := l.grant.Load(); g != nil && g.covers(now) {
		s.Standing = g.standing
		s.Age = max(now.mono-g.from.mono, now.wall-g.from.wall)
		s.Remaining = g.length - s.Age
	}
	return s
}

// Lapsed reports whether what was let through is to be cut: the lease has run
// out, or was closed. One that was dropped, to be granted anew, has not.
func (l *Lease) Lapsed() bool {
	g := l.last.Load()
	return g == nil || !g.covers(l.clock.split(l.clock.now()))
}

func (g *grant) covers(at instant) bool {
	mono, wall := at.mono-g.from.mono, at.wall-g.from.wall
	return mono < g.length && wall < g.length && mono-wall <= maxStepBack
}

// Want asks for a renewal at once. It does not wait for it.
func (l *Lease) Want() {
	select {
	case l.wanted <- struct{}{}:
	default:
	}
}

// extend grants the lease from t0, the time before the turn was sent.
func (l *Lease) extend(t0 time.Time, standing Standing) {
	from := l.clock.split(t0)
	g := &grant{standing: standing, from: from, length: l.ttl * 98 / 100}
	now := l.clock.split(l.clock.now()).mono
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if old := l.grant.Load(); old != nil && old.standing == standing && old.end() > g.end() {
		return // an answer that is late
	}
	l.grant.Store(g)
	if last := l.last.Load(); last == nil || last.end() <= g.end() {
		l.last.Store(g)
	}
	l.arm(now)
}

// drop ends the lease now. What it has let through is cut when it would have
// run out, unless there is another one by then.
func (l *Lease) drop() { l.grant.Store(nil) }

// direct takes back the right to trust what is remembered, and leaves the rest of
// the lease.
func (l *Lease) direct() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.grant.Load(); g != nil {
		l.grant.Store(&grant{standing: Direct, from: g.from, length: g.length})
	}
}

// close ends the lease for good.
func (l *Lease) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.grant.Store(nil)
	l.last.Store(nil)
	if l.timer != nil {
		l.timer.Stop()
	}
}

// watch has lapse called each time the lease runs out, from a goroutine of its
// own.
func (l *Lease) watch(lapse func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lapse = lapse
}

// arm sets the timer to the end of the lease. The caller holds the lock.
func (l *Lease) arm(now time.Duration) {
	if l.lapse == nil {
		return
	}
	left := l.last.Load().end() - now
	if l.timer == nil {
		l.timer = time.AfterFunc(left, l.lapsed)
		return
	}
	l.timer.Reset(left)
}

func (l *Lease) lapsed() {
	now := l.clock.split(l.clock.now()).mono
	l.mu.Lock()
	lapse := l.lapse
	switch {
	case l.closed:
		lapse = nil
	case now < l.last.Load().end():
		l.arm(now) // extended meanwhile, or the timer's clock is ahead of the lease's
		lapse = nil
	}
	l.mu.Unlock()
	if lapse != nil {
		lapse()
	}
}

// instant is one reading of both clocks.
type instant struct {
	mono time.Duration // since an arbitrary moment
	wall time.Duration // since the Unix epoch
}

// clock reads the time, and takes a reading apart.
type clock struct {
	now   func() time.Time
	split func(time.Time) instant
}

// clockOf takes readings that carry the monotonic clock, as those of [time.Now]
// do.
func clockOf(now func() time.Time) clock {
	base := now()
	return clock{now: now, split: func(t time.Time) instant {
		return instant{mono: t.Sub(base), wall: time.Duration(t.UnixNano())}
	}}
}
