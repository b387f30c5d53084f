package coherence

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Report says how far a change has come.
type Report struct {
	// Total is the number of instances when the change was committed. It is 0 while the
	// database could not be asked.
	Total int
	// Acknowledged is how many instances have applied the change.
	Acknowledged int
	// Expired are the instances that have not acknowledged and cannot have a lease any
	// more: they were silent for their whole ttl, or are gone.
	Expired []store.Member
	// Awaited are the instances that are neither. There are none in the end.
	Awaited []store.Member
	// Cut is how many requests in flight the instances have cut, by their own report.
	Cut int
}

// Revoker waits until a change holds on every instance. It is safe for concurrent use.
type Revoker struct {
	store   Store
	now     func() time.Time
	history *history
	own     *Follower // of this process, or nil

	mu     sync.Mutex // guards reaper
	reaper reaper     // for a process that is no member
	logger *slog.Logger
}

// NewRevoker makes a revoker for a process that is no member, such as the command line. A
// member uses [Follower.Revoker], which also knows whether the database has changed its
// history a moment ago.
func NewRevoker(s Store, now func() time.Time, logger *slog.Logger) *Revoker {
	return &Revoker{store: s, now: now, history: newHistory(0), logger: logger}
}

// Revoker makes a revoker that waits on behalf of this instance.
func (f *Follower) Revoker() *Revoker {
	return &Revoker{store: f.config.Store, now: f.config.Now, history: f.history, own: f, logger: f.config.Logger}
}

const (
	// The time between two questions for the members doubles from minPoll to maxPoll.
	minPoll = time.Millisecond
	maxPoll = 20 * time.Millisecond
	// maxUnsure is how long the wait goes on while the server has the wrong history, or
	// cannot say which one it has.
	maxUnsure = 10 * time.Second
)

// ErrUndone says that the database has changed its history since the change was committed,
// and that the change is not in the new history. It has to be made again.
var ErrUndone = errors.New("the database has another history now, in which the key was not revoked: revoke it again")

// Wait returns when no instance can accept the keys on a state from before the change. Each
// instance has then applied everything that was committed before committed, or cannot hold
// a lease from before. Committed is a reading of the clock from after the commit. Whatever
// was deleted before is then refused everywhere. Wait waits for the longest ttl of a silent
// member at most. The keys are those that were deleted, the last one at last.
//
// Wait calls watch with each report of how far it has come, unless watch is nil. The error
// is that of ctx: a member may still trust its memory then, and the report is the last one.
// Or the change may be lost. The error is then [ErrUndone], [store.ErrReplaced], or says why
// the present history cannot be asked, such as [store.ErrOtherHistory].
func (r *Revoker) Wait(
	ctx context.Context, keys []store.ID, committed time.Time, watch func(Report),
) (Report, error) {
	if r.own != nil {
		r.own.config.Lease.Want()
	}
	w := &wait{committed: committed, turnAfter: committed}
	pause := minPoll
	var unsureSince time.Time // since when it is not known whether the change is in the present history
	for {
		err := r.look(ctx, keys, w)
		if errors.Is(err, store.ErrReplaced) {
			return w.report(), err // the deletion may be in the database that was replaced
		}
		now := r.now()
		w.expire(now)
		report := w.report()
		if watch != nil {
			watch(report)
		}
		var unsure error
		switch {
		case errors.Is(err, store.ErrOtherHistory):
			unsure = err // the members of that history are not those to wait for
		case w.done(now) && r.settled(w.turnAfter, now):
			if unsure = r.checkDeleted(ctx, keys, committed); unsure == nil || errors.Is(unsure, ErrUndone) {
				return report, unsure
			}
		}
		switch {
		case unsure == nil:
			unsureSince = time.Time{}
		case unsureSince.IsZero():
			unsureSince = now
		case now.Sub(unsureSince) >= maxUnsure:
			return report, unsure
		}
		// The caller may go away. The change is committed, and each instance applies it.
		select {
		case <-ctx.Done():
			return report, context.Cause(ctx)
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPoll)
	}
}

// look asks who the members are and how far they have come, and updates the wait. After the
// first answer it asks for the awaited ones alone.
func (r *Revoker) look(ctx context.Context, keys []store.ID, w *wait) error {
	asked := r.now()
	progress, err := r.progress(ctx, keys, w.awaited())
	if err == nil && !progress.Watched && !w.barred {
		// The triggers are missing, so the change may not be in the log. A barrier is
		// an entry to wait for instead.
		if _, err = r.store.Barrier(ctx); err == nil {
			w.barred = true
			return r.look(ctx, keys, w)
		}
	}
	if err != nil {
		return err
	}
	now := r.now()
	r.history.noteOrigin(progress.Origin, now)
	for _, m := range progress.Members {
		r.history.noteTTL(m.TTL)
	}
	turnAfter := w.turnAfter
	if w.update(progress, asked) {
		r.history.noteBreak(now)
	}
	if r.own != nil && w.turnAfter != turnAfter {
		r.own.config.Lease.Want()
	}
	if r.own == nil { // otherwise the turns of this instance do it
		r.reap(ctx, progress.Members, now)
	}
	return nil
}

// checkDeleted returns nil if the deletion of the keys is in the present history. If the
// history has changed since the commit, it reads the last key: a standby that was promoted
// may have missed the commit. A history that has the last deletion has those before it.
func (r *Revoker) checkDeleted(ctx context.Context, keys []store.ID, committed time.Time) error {
	if len(keys) == 0 || !r.history.changedSince(committed) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := r.store.Key(ctx, keys[len(keys)-1])
	switch {
	case err == nil:
		return ErrUndone
	case errors.Is(err, store.ErrNotFound):
		return nil
	}
	return err
}

// settled reports whether the listed members are all that can hold a lease. If this process
// is an instance, it must have seen the history in a turn of its own that began after
// turnAfter. If it cannot take a turn, it waits for the longest lease instead.
func (r *Revoker) settled(turnAfter, now time.Time) bool {
	if r.own != nil && r.own.Place().Turned.Before(turnAfter) && now.Sub(turnAfter) < r.history.longestTTL() {
		return false
	}
	return !now.Before(r.history.settledAt())
}

// progress asks who the members are. The timeout makes sure that leases are seen to run out
// even if the database hangs.
func (r *Revoker) progress(ctx context.Context, keys, awaited []store.ID) (*store.Progress, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return r.store.Progress(ctx, keys, awaited)
}

// reap removes members that this wait has found dead, so that the next wait does not wait
// for them.
func (r *Revoker) reap(ctx context.Context, members []store.Member, now time.Time) {
	r.mu.Lock()
	dead := r.reaper.dead(members, now)
	r.mu.Unlock()
	for _, m := range dead {
		if _, err := r.store.Reap(ctx, m.ID, m.Heartbeat); err != nil {
			r.logger.Warn("a dead member cannot be removed", slog.String("member", m.ID.String()), slog.Any("error", err))
		}
	}
}

// wait is the state of [Revoker.Wait]. It does no input or output.
type wait struct {
	committed time.Time
	turnAfter time.Time                  // this instance must take a turn that begins after this time
	barred    bool                       // a barrier was set
	answered  bool                       // the database has said who the members are
	rev       int64                      // the revision that the members must apply
	members   map[store.ID]*store.Member // awaited
	order     []store.ID                 // of all members
	result    Report
}

// update takes in an answer. The first answer says what to wait for. It comes from after
// the commit, so its head is at or behind the change, and its members are all that can hold
// a lease from before. A member that joins later reads the change first. Update reports
// whether the log is shorter than it was, as after the restore of a backup.
func (w *wait) update(progress *store.Progress, asked time.Time) (broken bool) {
	w.result.Cut = progress.Cut
	if !w.answered {
		w.answered = true
		w.rev = progress.Head.Rev
		w.members = make(map[store.ID]*store.Member)
		w.result.Total = len(progress.Members)
		for i := range progress.Members {
			m := &progress.Members[i]
			w.members[m.ID] = m
			w.order = append(w.order, m.ID)
		}
	}
	listed := make(map[store.ID]bool, len(progress.Members))
	for _, m := range progress.Members {
		listed[m.ID] = true
		if w.members[m.ID] != nil && m.Applied >= w.rev {
			delete(w.members, m.ID)
			w.result.Acknowledged++
		}
	}
	if w.expireIf(func(m *store.Member) bool { return !listed[m.ID] }) {
		// A member has left or was removed. Or this is another history, in which the
		// member has not joined yet: a turn of this instance finds that out.
		w.turnAfter = asked
	}
	if progress.Head.Rev < w.rev {
		w.rev = progress.Head.Rev // so that this is reported once
		return true
	}
	return false
}

// awaited returns the members to ask for. Nil is all of them: nobody knows them yet.
func (w *wait) awaited() []store.ID {
	if !w.answered {
		return nil
	}
	awaited := []store.ID{}
	for _, id := range w.order {
		if w.members[id] != nil {
			awaited = append(awaited, id)
		}
	}
	return awaited
}

// expire ends the wait for members whose ttl has passed since the commit. A lease from
// before the change was granted on a state from before the commit, and counts from before
// that.
func (w *wait) expire(now time.Time) {
	w.expireIf(func(m *store.Member) bool { return now.Sub(w.committed) >= m.TTL })
}

// expireIf moves awaited members to the expired ones, and reports whether there were any.
func (w *wait) expireIf(expired func(m *store.Member) bool) (found bool) {
	for _, id := range w.order {
		if m := w.members[id]; m != nil && expired(m) {
			delete(w.members, id)
			w.result.Expired = append(w.result.Expired, *m)
			found = true
		}
	}
	return found
}

// done reports whether no member is awaited any more. If the database never said who the
// members are, the wait takes as long as the longest lease that can be configured.
func (w *wait) done(now time.Time) bool {
	if !w.answered {
		return now.Sub(w.committed) >= store.MaxTTL
	}
	return len(w.members) == 0
}

// report returns how far the change has come. The caller may keep it.
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
