package coherence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/store"
)

var errStandby = errors.New("the server is a read-only standby")

// renew takes a turn: it reports what was applied since the last one, applies
// what is new, and only then, and only at the head of the log, extends the lease,
// from before the turn was sent. It reports whether the next turn is due at once:
// to acknowledge, to read on, or to join again.
func (f *Follower) renew(ctx context.Context, feed store.Feed) (again bool, err error) {
	if err := f.join(ctx, feed); err != nil {
		return false, err
	}
	turn := f.turn()
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
		// Removed, after a silence of a whole ttl. Another instance may have been
		// told that this one has no lease, so it must have none. What is remembered
		// stays coherent through the log.
		f.config.Lease.drop()
		f.joined = false
		return true, nil
	}
	f.cuts = f.cuts[len(turn.Cuts):]
	applied, err := f.apply(ctx, feed, view)
	if err != nil {
		return false, err
	}
	f.setPlace(func(p *Place) { p.Turned = t0 })
	if f.Place().Applied != view.Head {
		return applied, nil
	}
	f.history.pass(view.Head, t0)
	return applied, f.extend(ctx, view, t0)
}

// pull applies what is new without a turn. It never extends the lease.
func (f *Follower) pull(ctx context.Context, feed store.Feed) error {
	view, err := f.ask(ctx, feed.Pull, f.turn())
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

func (f *Follower) ask(
	ctx context.Context, call func(context.Context, *store.Turn) (*store.View, error), turn *store.Turn,
) (*store.View, error) {
	calling, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	began := f.config.Now()
	view, err := call(calling, turn)
	if least := f.leastPatience(); err == nil && f.config.Now().Sub(began) < least/2 {
		f.patience = least // the link is quick again
	}
	return view, err
}

func (f *Follower) turn() *store.Turn {
	place := f.Place()
	return &store.Turn{Member: place.Member, Applied: place.Applied, Cuts: f.cuts, Limit: turnLimit}
}

// join makes the row of the member before anything of the log is read: whoever
// commits after that waits for it.
func (f *Follower) join(ctx context.Context, feed store.Feed) error {
	if f.joined {
		return nil
	}
	f.config.Lease.drop()
	if f.joining == (store.ID{}) {
		f.joining = newID() // a new one at every join: an old lease must not count for it
	}
	id := f.joining
	// Known before it is there, so that it is removed even if the answer is lost.
	f.setPlace(func(p *Place) { p.Member = id })
	calling, cancel := context.WithTimeout(ctx, max(f.patience, time.Second))
	defer cancel()
	err := feed.Join(calling, &store.Member{ID: id, Name: f.config.Name, TTL: f.config.Lease.ttl})
	if err != nil && !errors.Is(err, store.ErrConflict) { // a conflict is with the attempt before
		return err
	}
	f.joined, f.joining = true, store.ID{}
	return nil
}

// extend grants what the view allows. Memory does not outlive a lease that has run
// out: revocations were answered on the word that it had, and nothing says that
// they are in the log that is there now.
func (f *Follower) extend(ctx context.Context, view *store.View, t0 time.Time) error {
	if f.config.Lease.Lapsed() {
		if err := f.flush(ctx, false); err != nil {
			return err
		}
	}
	standing := Cached
	if !view.Watched {
		standing = Direct
	}
	f.config.Lease.extend(t0, standing)
	f.once.Do(func() { close(f.ready) })
	return nil
}

// watch notes whether changes are logged. While they are not, nothing says which
// keys were changed, so that nothing may be remembered, and every key that has
// requests in flight is looked up at each view. It comes before the place is
// moved on: to have applied a [store.Barrier] is to have seen this.
func (f *Follower) watch(ctx context.Context, view *store.View) error {
	if f.unwatched != !view.Watched {
		f.unwatched = !view.Watched
		if f.unwatched {
			f.config.Logger.Error("triggers on system_keys are missing or disabled: nothing is remembered, each request " +
				"reads its key, and revocations by others are noticed late. Restore the triggers")
		} else {
			f.config.Logger.Info("triggers on system_keys are in place again")
		}
	}
	if view.Watched {
		return nil
	}
	f.config.Lease.direct()
	return f.flush(ctx, true)
}

// apply brings this instance up to the view, and reports whether there was
// anything. Where it fails the place is that of the last change applied.
func (f *Follower) apply(ctx context.Context, feed store.Feed, view *store.View) (applied bool, err error) {
	f.history.see(view.Origin, f.config.Now())
	if view.Origin == "" {
		f.unnamed.Do(func() {
			f.config.Logger.Warn("the database server does not say which history it has: after a failover, an old primary " +
				"is told from the new one only once a change of a key was logged. Grant EXECUTE on pg_control_system() if there is one")
		})
	}
	if err := f.watch(ctx, view); err != nil {
		return false, err
	}
	if !view.InLog {
		joined := f.Place().Applied == (store.Position{})
		if !joined {
			f.history.broken(f.config.Now())
		}
		f.config.Lease.drop()
		if err := f.flush(ctx, true); err != nil {
			return false, err
		}
		f.setPlace(func(p *Place) { p.Applied = view.Head })
		if !joined {
			f.reportLoss(ctx, feed)
		}
		return true, nil
	}
	for i := range view.Changes {
		change := &view.Changes[i]
		n, err := f.change(ctx, change)
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

// reportLoss says that the log lacks what this instance has applied, and since when
// revocations may be lost. It asks in turns, because those reach the primary; they
// extend no lease.
func (f *Follower) reportLoss(ctx context.Context, feed store.Feed) {
	since, err := f.history.shared(func(place store.Position) (bool, error) {
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

// change applies one change: it forgets first, and then cuts what was let through
// before. It returns how many requests it has cut.
func (f *Follower) change(ctx context.Context, change *store.Change) (int, error) {
	switch change.Kind {
	case store.KeysInserted, store.Barrier:
		return 0, nil
	case store.KeyDeleted:
		f.config.Cache.Forget(change.Key)
		return f.config.Flights.Cut(change.Key, cut.ErrRevoked), nil
	case store.KeyRehashed:
		f.config.Cache.Forget(change.Key)
		return 0, nil
	case store.KeyChanged, store.KeyRekeyed:
		f.config.Cache.Forget(change.Key)
		return f.review(ctx, change.Key, change.Kind == store.KeyRekeyed)
	case store.AllChanged:
	}
	return 0, f.flush(ctx, true) // also what a newer version may log
}

// flush forgets everything and looks up every key that has requests in flight.
// Rekeyed is as in [Flights.Review].
func (f *Follower) flush(ctx context.Context, rekeyed bool) error {
	f.config.Cache.ForgetAll()
	for _, id := range f.config.Flights.Keys() {
		if _, err := f.review(ctx, id, rekeyed); err != nil {
			return err
		}
	}
	return nil
}

// review reads a key and cuts its requests that it would not let through now.
func (f *Follower) review(ctx context.Context, id store.ID, rekeyed bool) (int, error) {
	if !f.config.Flights.Has(id) {
		return 0, nil
	}
	reading, cancel := context.WithTimeout(ctx, max(f.patience, time.Second))
	defer cancel()
	row, err := f.config.Store.Key(reading, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return 0, err
	}
	return f.config.Flights.Review(id, row, rekeyed), nil
}

func (f *Follower) setPlace(change func(*Place)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.place)
}
