package coherence

import (
	"cmp"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/cut"
)

// logInterval is how often the log repeats that the database cannot be followed.
const logInterval = time.Minute

var (
	errRemoved = errors.New("this instance was silent for its whole lease, so that another one has removed it")
	errSilent  = errors.New("the database has not answered in time")
)

// outage is what the log says while the database cannot be followed: once what is wrong, once
// that the lease is lost, each of the two again after a minute, and once that it is over. A
// link that breaks and comes back all the time is logged once a minute too.
type outage struct {
	mu     sync.Mutex
	since  time.Time // the first failure in a row, or zero
	err    error     // the newest failure
	logged time.Time // the newest line about a failure
	lost   bool      // a line of this outage has said that there is no lease
}

// failed notes a failure.
func (f *Follower) failed(err error) {
	o, now, lease := &f.outage, f.config.Now(), f.config.Lease.Stats()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		o.since = now
	}
	o.err = err
	lost := lease.State == LeaseNone
	if now.Sub(o.logged) < logInterval && (!lost || o.lost) {
		return
	}
	o.logged = now
	if lost {
		o.lost = true
		f.config.Logger.Error("no lease, requests with a key get 503", slog.Any("error", err), slog.Time("since", o.since))
		return
	}
	f.config.Logger.Warn("changes of keys cannot be followed, keys in memory work until the lease runs out", slog.Any("error", err),
		slog.Time("since", o.since), slog.String("lease_remaining", text(lease.Remaining)))
}

// lapsed is called when the lease has run out. It cuts the requests in flight, unless they are
// to be kept.
func (f *Follower) lapsed() {
	requests := 0
	if !f.config.KeepOnLapse {
		requests = f.config.InFlight.CutAll(cut.ErrLapsed)
	}
	o, now := &f.outage, f.config.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		o.since = now
	}
	o.logged, o.lost = now, true
	f.config.Logger.Error("the lease has run out, requests with a key get 503", slog.Any("error", cmp.Or(o.err, errSilent)),
		slog.Time("since", o.since), slog.Int("requests_cut", requests))
}

// recovered is called when the lease is about to be extended. Unseen says that it had run out
// before, and nothing has noticed.
func (f *Follower) recovered(unseen bool) {
	o, now := &f.outage, f.config.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-f.ready:
	default:
		f.config.Logger.Info("ready, requests with a key are served", slog.String("lease", text(f.config.Lease.ttl)))
		o.since, o.err, o.lost = time.Time{}, nil, false
		return
	}
	after := slog.String("after", text(now.Sub(o.since)))
	switch {
	case o.lost:
		f.config.Logger.Info("lease again, requests with a key are served", after)
	case !o.since.IsZero() && !o.logged.Before(o.since):
		f.config.Logger.Info("changes of keys are followed again, the lease has not run out", after)
	case o.since.IsZero() && unseen:
		mono, wall := f.config.Lease.sinceGrant()
		f.config.Logger.Warn("lease again: it had run out while this process stood still, or a clock was set",
			slog.String("by_the_monotonic_clock", text(mono)), slog.String("by_the_wall_clock", text(wall)))
	}
	o.since, o.err, o.lost = time.Time{}, nil, false
}

// text returns a duration as people read it. Caddy would log the number of seconds, without its
// unit.
func text(d time.Duration) string { return d.Round(10 * time.Millisecond).String() }
