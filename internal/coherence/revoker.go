package coherence

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Report is how far a change has come.
type Report struct {
	// Total is the number of instances when the change was committed; 0 while the
	// database could not be asked.
	Total int
	// Acknowledged is how many of them have applied it.
	Acknowledged int
	// Expired are those that have not acknowledged and cannot have a lease any
	// more: they were silent for their whole ttl, or are gone.
	Expired []store.Member
	// Awaited are the others. There are none in the end.
	Awaited []store.Member
	// Cut is how many requests in flight were cut, as the instances report it.
	Cut int
}

// Revoker waits until a change is true everywhere. It is safe for concurrent
// use.
type Revoker struct {
	store   Store
	now     func() time.Time
	history *history
	reaper  *reaper
	own     *Follower // this process's, or nil
	logger  *slog.Logger
}

// NewRevoker makes a revoker for a process that is not a member, such as the
// command line. A member has [Follower.Revoker], which also knows whether the
// database was another one a moment ago.
func NewRevoker(s Store, now func() time.Time, logger *slog.Logger) *Revoker {
	h := newHistory(0)
	return &Revoker{store: s, now: now, history: h, reaper: newReaper(s, now, h), logger: logger}
}

// Revoker waits on behalf of this instance.
func (f *Follower) Revoker() *Revoker {
	return &Revoker{
		store: f.config.Store, now: f.config.Now, history: f.history, reaper: f.reaper,
		own: f, logger: f.config.Logger,
	}
}

// Bounds of the time between two looks at the members.
const (
	minLook = time.Millisecond
	maxLook = 20 * time.Millisecond
	// maxUnsure is how long a server is looked for that has the right history.
	maxUnsure = 10 * time.Second
)

// ErrUndone says that the database has another history since the change was
// committed, and that the change is not in it. It has to be made again.
var ErrUndone = errors.New("the database has another history now, in which the key was not revoked: revoke it again")

// Wait returns when every instance has applied what was committed before
// committed, a reading of the clock that was taken after the commit, or cannot
// hold a lease from before it. It then answers for the key: whatever was deleted
// before is refused everywhere. It waits for the longest ttl of a silent member
// at most.
//
// Each report of how far it has come goes to watch, which may be nil. The error
// is that of ctx; a member may trust its memory then, and the report is that of the
// last look. Or the change may be lost: it is [ErrUndone], [store.ErrReplaced], or
// why the history that there is cannot be asked, such as [store.ErrOtherHistory].
func (r *Revoker) Wait(
	ctx context.Context, key store.ID, committed time.Time, watch func(Report),
) (Report, error) {
	if r.own != nil {
		r.own.config.Lease.Want()
	}
	w := &wait{committed: committed, turning: committed}
	look := minLook
	var barred bool
	var since time.Time // when it became unsure whether the change is in the history that there is
	for {
		asked := r.now()
		progress, err := r.look(ctx, key)
		if err == nil && !progress.Watched && !barred {
			// The change may not be in the log: put something there to wait for.
			if _, err = r.store.Barrier(ctx); err == nil {
				barred = true
				continue
			}
		}
		if errors.Is(err, store.ErrReplaced) {
			return w.report(), err // the deletion may be in what was replaced
		}
		now := r.now()
		if err == nil {
			r.history.see(progress.Origin, now)
			turning := w.turning
			if w.see(progress, asked) {
				r.history.broken(now)
			}
			if r.own != nil && w.turning != turning {
				r.own.config.Lease.Want()
			}
			r.reap(ctx, progress)
		}
		w.expire(now)
		report := w.report()
		if watch != nil {
			watch(report)
		}
		var unsure error // of the history that there is
		switch {
		case errors.Is(err, store.ErrOtherHistory):
			unsure = err // its members are not those who are to be waited for
		case w.over(now) && r.settled(w.turning, now):
			if unsure = r.held(ctx, key, committed); unsure == nil || errors.Is(unsure, ErrUndone) {
				return report, unsure
			}
		}
		switch {
		case unsure == nil:
			since = time.Time{}
		case since.IsZero():
			since = now
		case now.Sub(since) >= maxUnsure:
			return report, unsure
		}
		select {
		case <-ctx.Done():
			return report, context.Cause(ctx)
		case <-time.After(look):
		}
		look = min(2*look, maxLook)
	}
}

// held returns nil if the deletion of the key is in the history that there is. If
// that has changed since the commit, the key is looked for: a standby that was
// promoted may have missed the commit.
func (r *Revoker) held(ctx context.Context, key store.ID, committed time.Time) error {
	if key == (store.ID{}) || !r.history.changedSince(committed) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := r.store.Key(ctx, key)
	switch {
	case err == nil:
		return ErrUndone
	case errors.Is(err, store.ErrNotFound):
		return nil
	}
	return err
}

// settled reports whether the members that are there are all. An instance that
// waits looks at the history itself, in a turn from after the time given; while it
// cannot, the longest lease is let pass.
func (r *Revoker) settled(turning, now time.Time) bool {
	if r.own != nil && r.own.Place().Turned.Before(turning) && now.Sub(turning) < r.history.longest() {
		return false
	}
	return !now.Before(r.history.settled())
}

// look asks who the members are. It is bounded, so that a database that hangs
// does not keep leases from being seen to run out.
func (r *Revoker) look(ctx context.Context, key store.ID) (*store.Progress, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return r.store.Progress(ctx, key)
}

// reap removes members that this wait has seen to be dead, so that the next one
// need not wait for them.
func (r *Revoker) reap(ctx context.Context, progress *store.Progress) {
	for _, m := range r.reaper.dead(progress.Members) {
		if _, err := r.store.Reap(ctx, m.ID, m.Beat); err != nil {
			r.logger.Warn("a dead member cannot be removed", slog.String("member", m.ID.String()), slog.Any("error", err))
		}
	}
}

// wait is the state of [Revoker.Wait], without input or output.
type wait struct {
	committed time.Time
	turning   time.Time // from when on this instance is to have taken a turn
	asked     bool
	rev       int64
	members   map[store.ID]*store.Member // awaited
	order     []store.ID
	result    Report
}

// see takes in an answer. The first one, from after the commit, says what to wait
// for: its head is at or behind the change, and its members are all that can hold
// a lease from before. Who joins later reads the change first. It reports whether
// the log is shorter than it was, as after the return to a backup.
func (w *wait) see(progress *store.Progress, asked time.Time) (broken bool) {
	w.result.Cut = progress.Cut
	if !w.asked {
		w.asked = true
		w.rev = progress.Head.Rev
		w.members = make(map[store.ID]*store.Member)
		w.result.Total = len(progress.Members)
		for i := range progress.Members {
			m := &progress.Members[i]
			w.members[m.ID] = m
			w.order = append(w.order, m.ID)
		}
	}
	there := make(map[store.ID]bool, len(progress.Members))
	for _, m := range progress.Members {
		there[m.ID] = true
		if w.members[m.ID] != nil && m.Applied >= w.rev {
			delete(w.members, m.ID)
			w.result.Acknowledged++
		}
	}
	if w.strike(func(m *store.Member) bool { return !there[m.ID] }) {
		// It left, or was removed; or this is another history, in which it has not
		// joined yet.
		w.turning = asked
	}
	if progress.Head.Rev < w.rev {
		w.rev = progress.Head.Rev // said once
		return true
	}
	return false
}

// expire strikes off the members whose ttl has passed since the commit: their
// lease was granted on a state from before it, and counts from before that.
func (w *wait) expire(now time.Time) {
	w.strike(func(m *store.Member) bool { return now.Sub(w.committed) >= m.TTL })
}

func (w *wait) strike(expired func(m *store.Member) bool) (struck bool) {
	for _, id := range w.order {
		if m := w.members[id]; m != nil && expired(m) {
			delete(w.members, id)
			w.result.Expired = append(w.result.Expired, *m)
			struck = true
		}
	}
	return struck
}

// over reports whether nobody is awaited any more. If it was never said who the
// members are, no lease can be longer than the longest there is.
func (w *wait) over(now time.Time) bool {
	if !w.asked {
		return now.Sub(w.committed) >= store.MaxTTL
	}
	return len(w.members) == 0
}

func (w *wait) report() Report {
	r := w.result
	r.Expired = slices.Clone(r.Expired)
	for _, id := range w.order {
		if m := w.members[id]; m != nil {
			r.Awaited = append(r.Awaited, *m)
		}
	}
	return r
}
