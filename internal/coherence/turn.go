package coherence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// errStandby ends a session with a server that is only a standby. It lags behind, so it may not
// know of a revocation that was answered.
var errStandby = errors.New("the server is a read-only standby")

// renew takes a turn. It reports what was applied since the last turn, and applies the
// changes that are new. Only then, and only at the head of the log, it extends the lease,
// from before the turn was sent. It returns whether the next turn is due at once: to
// acknowledge, to read on, or to join again.
func (f *Follower) renew(ctx context.Context, feed store.Feed) (again bool, err error) {
	if err := f.join(ctx, feed); err != nil {
		return false, err
	}
	turn := f.newTurn()
	t0 := f.config.Now() // before sending
	view, err := f.ask(ctx, feed.Renew, turn)
	if err != nil {
		return false, err
	}
	switch {
	case view.Standby:
		f.config.Lease.drop()
		return false, errStandby
	case !view.Member:
		// The member was removed after a silence of a whole ttl. Another instance may
		// rely on it that this one has no lease, so the lease ends. Memory stays
		// coherent through the log.
		f.config.Lease.drop()
		f.joined = false
		f.failed(errRemoved)
		return true, nil
	}
	f.cuts = f.cuts[len(turn.Cuts):]
	f.tidy(ctx, view)
	applied, err := f.apply(ctx, feed, view)
	if err != nil {
		return false, err
	}
	f.setPlace(func(p *Place) { p.Turned = t0 })
	// There are more changes to apply, so the lease is not extended yet.
	if f.Place().Applied != view.Head {
		return applied, nil
	}
	f.history.noteHead(view.Head, t0)
	return applied, f.extend(ctx, view, t0)
}

// pull applies the changes that are new without a turn. It never extends the lease: other
// instances do not see it, and may take this one for silent.
func (f *Follower) pull(ctx context.Context, feed store.Feed) error {
	view, err := f.ask(ctx, feed.Pull, f.newTurn())
	if err != nil {
		return err
	}
	if view.Standby {
		f.config.Lease.drop()
		return errStandby
	}
	_, err = f.apply(ctx, feed, view)
	return err
}

// ask makes a call within the timeout. If the answer is quick, the timeout goes back to its
// base.
func (f *Follower) ask(
	ctx context.Context, call func(context.Context, *store.Turn) (*store.View, error), turn *store.Turn,
) (*store.View, error) {
	calling, cancel := context.WithTimeout(ctx, f.callTimeout)
	defer cancel()
	began := f.config.Now()
	view, err := call(calling, turn)
	if base := f.baseTimeout(); err == nil && f.config.Now().Sub(began) < base/2 {
		f.callTimeout = base // the link is quick again
	}
	return view, err
}

// newTurn is the next turn: the place up to which everything was applied, and the requests
// that were cut.
func (f *Follower) newTurn() *store.Turn {
	place := f.Place()
	turn := &store.Turn{Member: place.Member, Applied: place.Applied, Cuts: f.cuts, Limit: turnLimit}
	if f.config.ExpiredBefore != nil {
		turn.ExpiredBefore = f.config.ExpiredBefore()
	}
	return turn
}

// join inserts the row of the member before it reads anything of the log. A revocation that
// is committed later waits for the member.
func (f *Follower) join(ctx context.Context, feed store.Feed) error {
	if f.joined {
		return nil
	}
	f.config.Lease.drop()
	if f.joining == (store.ID{}) {
		f.joining = store.ID(uuid.New()) // each join has a new id, so that an old lease does not count for it
	}
	id := f.joining
	// Set before the row is there, so that Close removes the row even if the answer is lost.
	f.setPlace(func(p *Place) { p.Member = id })
	calling, cancel := context.WithTimeout(ctx, max(f.callTimeout, time.Second))
	defer cancel()
	err := feed.Join(calling, &store.Member{ID: id, Name: f.config.Name, TTL: f.config.Lease.ttl})
	if err != nil && !errors.Is(err, store.ErrConflict) { // a conflict is with our attempt before
		return err
	}
	f.joined, f.joining = true, store.ID{}
	return nil
}

// extend grants the lease that the view allows. If the lease has run out before, memory goes
// first: revocations were answered because the lease had run out, and they may be missing
// in the log that is there now.
func (f *Follower) extend(ctx context.Context, view *store.View, t0 time.Time) error {
	lapsed := f.config.Lease.Lapsed()
	if lapsed {
		if err := f.flush(ctx, false); err != nil {
			return err
		}
	}
	f.recovered(lapsed)
	state := LeaseCached
	if !view.Watched {
		state = LeaseDirect
	}
	f.config.Lease.extend(t0, state)
	f.readyOnce.Do(func() { close(f.ready) })
	return nil
}

// checkTriggers notes whether changes are logged. While they are not, nothing says which keys
// were changed. Then nothing may be remembered, and each view looks up every key that has
// requests in flight. This comes before the place moves on: an instance that has applied a
// [store.Barrier] must have seen that the triggers are missing.
func (f *Follower) checkTriggers(ctx context.Context, view *store.View) error {
	if f.triggersMissing != !view.Watched {
		f.triggersMissing = !view.Watched
		if f.triggersMissing {
			f.config.Logger.Error("triggers on system_keys are missing or disabled: nothing is remembered, each request " +
				"reads its key, and revocations by others are noticed late. Restore the triggers")
		} else {
			f.config.Logger.Info("triggers on system_keys are in place again")
		}
	}
	if view.Watched {
		return nil
	}
	f.config.Lease.downgrade()
	return f.flush(ctx, true)
}

// checkFollowed notes whether the table that is to be followed is. While it is not, imported
// keys are not accepted. Like checkTriggers it comes before the place moves on.
func (f *Follower) checkFollowed(ctx context.Context, view *store.View) error {
	if f.unfollowed == view.Unfollowed {
		return nil
	}
	f.config.Lease.unfollowed.Store(view.Unfollowed)
	if view.Unfollowed {
		f.config.Logger.Error("the triggers on the table that is followed are missing or were disabled: keys that came from it get 503, " +
			"since they may be revoked there. Run: caddy system-keys import --follow")
		if err := f.flush(ctx, true); err != nil {
			return err
		}
	} else {
		f.config.Logger.Info("the table is followed again, or is not to be followed any more")
	}
	f.unfollowed = view.Unfollowed
	return nil
}

// apply applies the changes of a view, and reports whether there were any. If it fails, the
// place is that of the last change that was applied.
func (f *Follower) apply(ctx context.Context, feed store.Feed, view *store.View) (applied bool, err error) {
	f.history.noteOrigin(view.Origin, f.config.Now())
	if view.Origin == "" {
		f.warnOrigin.Do(func() {
			f.config.Logger.Warn("the database server does not say which history it has: after a failover, an old primary " +
				"is told from the new one only once a change of a key was logged. Grant EXECUTE on pg_control_system() if there is one")
		})
	}
	if err := f.checkTriggers(ctx, view); err != nil {
		return false, err
	}
	if err := f.checkFollowed(ctx, view); err != nil {
		return false, err
	}
	if !view.InLog {
		first := f.Place().Applied == (store.Position{}) // this instance has no place yet
		if !first {
			f.history.noteBreak(f.config.Now())
		}
		f.config.Lease.drop()
		if err := f.flush(ctx, true); err != nil {
			return false, err
		}
		// Everything was forgotten, so no entry before the head matters any more.
		f.setPlace(func(p *Place) { p.Applied = view.Head })
		if !first {
			f.reportLoss(ctx, feed)
		}
		return true, nil
	}
	for i := range view.Changes {
		change := &view.Changes[i]
		n, err := f.applyChange(ctx, change)
		if err != nil {
			return false, fmt.Errorf("apply change %d: %w", change.Rev, err)
		}
		if n > 0 {
			f.cuts = append(f.cuts, store.Cut{Rev: change.Rev, Requests: n})
			f.config.Logger.Info("requests in flight were cut", slog.Int("requests", n),
				slog.String("key_id", change.Key.String()), slog.Int64("revision", change.Rev))
		}
		f.setPlace(func(p *Place) { p.Applied = change.Position })
	}
	return len(view.Changes) > 0, nil
}

// reportLoss logs that the database lacks changes that this instance has applied, and since
// when revocations may be lost. It asks by turns, because a turn reaches the primary. These
// turns extend no lease.
func (f *Follower) reportLoss(ctx context.Context, feed store.Feed) {
	since, err := f.history.sharedUntil(func(place store.Position) (bool, error) {
		view, err := f.ask(ctx, feed.Renew, &store.Turn{Member: f.Place().Member, Applied: place, Limit: 1})
		return err == nil && view.InLog, err
	})
	attributes := []any{slog.String("since", since.UTC().Format(time.RFC3339))}
	switch {
	case err != nil:
		attributes = []any{slog.String("since", "unknown"), slog.Any("error", err)}
	case since.IsZero():
		attributes = []any{slog.String("since", "before this instance remembers")}
	}
	f.config.Logger.Error("the database has another history than before: a standby was promoted that lacked the last changes, or a backup "+
		"was restored. Revocations that were answered since the time given may be lost: list the keys, and revoke again what should be gone", attributes...)
}

// applyChange applies one change. It forgets the key first, and then cuts the requests that
// were let through before. It returns how many requests it has cut.
func (f *Follower) applyChange(ctx context.Context, change *store.Change) (int, error) {
	switch change.Kind {
	case store.KeysInserted, store.Barrier:
		return 0, nil
	case store.KeyDeleted:
		f.config.Forget(change.Key)
		return f.config.InFlight.Cut(change.Key, cut.ErrRevoked), nil
	case store.KeyRehashed:
		// The same key with a new hash: its requests go on.
		f.config.Forget(change.Key)
		return 0, nil
	case store.KeyChanged, store.KeyRekeyed:
		f.config.Forget(change.Key)
		return f.review(ctx, change.Key, change.Kind == store.KeyRekeyed)
	case store.AllChanged:
	}
	return 0, f.flush(ctx, true) // also for a kind that only a newer version knows
}

// flush forgets everything, and looks up every key that has requests in flight. Rekeyed is as in
// [InFlight.Review]. If it fails half-way, everything is forgotten all the same, and the caller
// does not move on in the log.
func (f *Follower) flush(ctx context.Context, rekeyed bool) error {
	f.config.ForgetAll()
	for _, id := range f.config.InFlight.Keys() {
		if _, err := f.review(ctx, id, rekeyed); err != nil {
			return err
		}
	}
	return nil
}

// review reads the row of a key, and cuts the requests that the row would not let through
// now. It returns how many it has cut.
func (f *Follower) review(ctx context.Context, id store.ID, rekeyed bool) (int, error) {
	// Without requests in flight there is nothing to cut, and the read is spared.
	if !f.config.InFlight.Has(id) {
		return 0, nil
	}
	reading, cancel := context.WithTimeout(ctx, max(f.callTimeout, time.Second))
	defer cancel()
	row, err := f.config.Store.Key(reading, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return 0, err
	}
	if row != nil && row.Imported() && f.config.Lease.Unfollowed() && !f.config.KeepOnLapse {
		return f.config.InFlight.Cut(id, cut.ErrLapsed), nil
	}
	return f.config.InFlight.Review(id, row, rekeyed), nil
}

// setPlace changes the place under the lock. Only the loop calls it; others read the place.
func (f *Follower) setPlace(change func(*Place)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.place)
}
