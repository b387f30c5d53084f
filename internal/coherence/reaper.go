package coherence

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

const (
	// keepChanges is how many entries of the change log are kept. An instance that has
	// missed more than that forgets everything and starts at the head, and does not report
	// what it cuts. Ten thousand keys may end in one transaction, so there is room for some.
	keepChanges = 50_000
	// pruneEvery is how many entries the log has grown by when an instance prunes it.
	pruneEvery = keepChanges / 10
	// tidyTimeout bounds a call that removes a member or old entries.
	tidyTimeout = 10 * time.Second
)

// reaper finds dead members, so that no revocation waits for them. A member is dead if its
// heartbeat has not changed for its whole ttl since this instance has seen it, on this
// instance's clock. It is removed only if the heartbeat is still the same. So a member that
// holds a lease is never removed: its last renewal either shows in the heartbeat, or is
// older than a ttl.
type reaper map[store.ID]sighting

// sighting is a heartbeat of a member, and when it was seen for the first time.
type sighting struct {
	heartbeat int64
	at        time.Time // after the answer with the heartbeat
}

// dead notes the members of an answer, and returns those that have been silent for a ttl. It
// forgets who is not among them. Now is a reading of the clock from after the answer. A
// reading from before the question would be too early: a member may have renewed its lease
// in between.
func (r *reaper) dead(members []store.Member, now time.Time) []store.Member {
	seen := make(reaper, len(members))
	var dead []store.Member
	for _, m := range members {
		s, ok := (*r)[m.ID]
		if !ok || s.heartbeat != m.Heartbeat {
			s = sighting{heartbeat: m.Heartbeat, at: now}
		}
		seen[m.ID] = s
		if now.Sub(s.at) >= m.TTL {
			dead = append(dead, m)
		}
	}
	*r = seen
	return dead
}

// tidy does what a view says is left to do for any of the instances. It removes dead members,
// prunes a change log that has grown, and has audit records sealed and expired keys deleted.
// The loop does not wait for it. What fails is tried again at a later view.
func (f *Follower) tidy(ctx context.Context, view *store.View) {
	f.history.noteTTL(view.LongestTTL)
	for _, m := range f.reaper.dead(view.Silent, f.config.Now()) {
		f.ended.Go(func() { f.reap(ctx, m) })
	}
	if view.Unsealed && f.config.Unsealed != nil {
		f.config.Unsealed()
	}
	if view.Expired && f.config.Expired != nil {
		f.config.Expired()
	}
	grown := view.Head.Rev - f.pruned
	if grown >= pruneEvery || grown < 0 { // below 0: in another history
		f.pruned = view.Head.Rev
		f.ended.Go(func() { f.prune(ctx) })
	}
}

// reap removes a dead member, if it is still silent. Several instances may try it. One of them
// does it, and logs it.
func (f *Follower) reap(ctx context.Context, m store.Member) {
	ctx, cancel := context.WithTimeout(ctx, tidyTimeout)
	defer cancel()
	if reaped, err := f.config.Store.Reap(ctx, m.ID, m.Heartbeat); err == nil && reaped {
		f.config.Logger.Info("a member that was silent for its whole lease was removed",
			slog.String("member", m.ID.String()), slog.String("name", m.Name))
	}
}

// prune removes old entries of the change log. An instance that still needs one of them forgets
// everything.
func (f *Follower) prune(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, tidyTimeout)
	defer cancel()
	if err := f.config.Store.Prune(ctx, keepChanges); err != nil && ctx.Err() == nil {
		f.config.Logger.Warn("the change log cannot be pruned", slog.Any("error", err))
	}
}

// spread returns a random duration within 20 % of d, so that instances do not act in step.
//
// Instances that start together would otherwise load the database together for ever.
func spread(d time.Duration) time.Duration {
	return d*4/5 + rand.N(max(1, d*2/5)) //nolint:gosec // spreads load
}
