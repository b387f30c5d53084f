package coherence

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// keepChanges is how many entries of the change log are kept. An instance that has missed
// more than that forgets everything and starts at the head.
const keepChanges = 10_000

// reaper removes dead members, so that no revocation waits for them. A member is dead if its
// heartbeat has not changed for its whole ttl since this instance has seen it, on this
// instance's clock. It is removed only if the heartbeat is still the same. So a member that
// holds a lease is never removed: its last renewal either shows in the heartbeat, or is
// older than a ttl.
type reaper struct {
	store   Store
	now     func() time.Time
	history *history
	spread  func(time.Duration) time.Duration

	mu   sync.Mutex
	seen map[store.ID]sighting
}

// sighting is a heartbeat of a member, and when it was seen for the first time.
type sighting struct {
	heartbeat int64
	at        time.Time // after the answer with the heartbeat
}

// newReaper makes a reaper. It shares the history, which learns of each member's ttl.
func newReaper(s Store, now func() time.Time, h *history) *reaper {
	return &reaper{store: s, now: now, history: h, spread: spread, seen: make(map[store.ID]sighting)}
}

// run looks at all members once in an interval. Now and then it prunes the change log.
func (r *reaper) run(ctx context.Context, interval time.Duration, logger *slog.Logger) {
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(r.spread(interval)):
		}
		r.round(ctx, logger)
		if turn%64 == 0 {
			pruning, cancel := context.WithTimeout(ctx, time.Minute)
			if err := r.store.Prune(pruning, keepChanges); err != nil && ctx.Err() == nil {
				logger.Warn("the change log cannot be pruned", slog.Any("error", err))
			}
			cancel()
		}
	}
}

// round looks at all members once. If something fails, the next round tries it again.
func (r *reaper) round(ctx context.Context, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	progress, err := r.store.Progress(ctx, store.ID{})
	if err != nil {
		return
	}
	for _, m := range r.dead(progress.Members) {
		if reaped, err := r.store.Reap(ctx, m.ID, m.Heartbeat); err == nil && reaped {
			logger.Info("a member that was silent for its whole lease was removed",
				slog.String("member", m.ID.String()), slog.String("name", m.Name))
		}
	}
}

// dead notes the members of an answer, and returns those that have been silent for a ttl. It
// reads the clock here, after the answer. A reading from before the question would be too
// early: a member may have renewed its lease in between.
func (r *reaper) dead(members []store.Member) []store.Member {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := make(map[store.ID]sighting, len(members))
	var dead []store.Member
	for _, m := range members {
		r.history.noteTTL(m.TTL)
		s, ok := r.seen[m.ID]
		if !ok || s.heartbeat != m.Heartbeat {
			s = sighting{heartbeat: m.Heartbeat, at: now}
		}
		seen[m.ID] = s
		if now.Sub(s.at) >= m.TTL {
			dead = append(dead, m)
		}
	}
	r.seen = seen
	return dead
}

// spread returns a random duration within 20 % of d, so that instances do not act in step.
func spread(d time.Duration) time.Duration {
	return d*4/5 + rand.N(max(1, d*2/5)) //nolint:gosec // spreads load
}
