package coherence_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// history is what clients and admins saw, checked while it is written. All times
// are of one clock, which no instance can see.
//
// What has to be true is a property of single events: an instance must not serve
// a key, neither a new request nor one in flight, after a revocation of it was
// answered. So a direct check of each is complete, and needs no search for an
// order of operations.
type history struct {
	mu         sync.Mutex
	violations []string
	pruned     bool

	events, accepted, refusals, unavailable, lapses int
	cuts, revocations, answered                     int
	repeats                                         int // revocations of keys that were gone
	toAnswer, toLast                                []time.Duration
}

func (h *history) violate(format string, args ...any) {
	if len(h.violations) < 20 {
		h.violations = append(h.violations, fmt.Sprintf(format, args...))
	}
}

// served notes that the instance has let a request through, or sent some more of
// the answer to one that it let through before.
func (h *history) served(i *instance, key *simulatedKey, fresh bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	h.events++
	h.accepted++
	if !key.answered.IsZero() {
		h.violate("%s served %s %v after its revocation was answered", i.name, key.id, now.Sub(key.answered))
	}
	if lost := now.Sub(key.lost); !key.lost.IsZero() && lost > simulatedTTL*11/10 {
		// Whoever has a lease now has taken a turn since.
		h.violate("%s served %s %v after the database went back to a time without it", i.name, key.id, lost)
	}
	if gone, ok := key.gone[i.name]; ok && fresh {
		h.violate("%s let %s through %v after it had said that there is no such key", i.name, key.id, now.Sub(gone))
	}
	key.lastServed = now
}

func (h *history) refused(i *instance, key *simulatedKey, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events++
	if !errors.Is(err, verify.ErrInvalidToken) {
		h.unavailable++
		return
	}
	h.refusals++
	if key.revoking.IsZero() {
		h.violate("%s refused %s, which nobody has revoked: %v", i.name, key.id, err)
	}
	if errors.Is(err, verify.ReasonRevoked) && !key.restored {
		key.gone[i.name] = time.Now()
	}
}

func (h *history) cut(i *instance, key *simulatedKey, cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events++
	if errors.Is(cause, cut.ErrLapsed) {
		h.lapses++
		return
	}
	h.cuts++
	// An instance that has to look at all keys anew cannot tell a key that was
	// rehashed from one that was given another's hash.
	if key.revoking.IsZero() && !key.narrowed && (!key.rehashed || !h.pruned) {
		h.violate("%s cut a request of %s, which is as good as before: %v", i.name, key.id, cause)
	}
}

// live returns the keys that nobody has revoked.
func (h *history) live(keys []*simulatedKey) []*simulatedKey {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(keys), func(key *simulatedKey) bool { return !key.revoking.IsZero() })
}

// narrow notes that a permission is about to be taken.
func (h *history) narrow(key *simulatedKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key.narrowed = true
}

// rehash notes that the key is about to be rehashed.
func (h *history) rehash(key *simulatedKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key.rehashed = true
}

// prune notes that the log may have lost what an instance has not applied.
func (h *history) prune() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pruned = true
}

func (h *history) lapsed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lapses++
}

// revoke notes that somebody is about to revoke the key.
func (h *history) revoke(key *simulatedKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events++
	h.revocations++
	if key.revoking.IsZero() {
		key.revoking, key.lastServed = time.Now(), time.Time{}
	}
}

// answer notes that a revocation was answered. Restored says whether the key is
// back, because the database went back to a time before it.
func (h *history) answer(key *simulatedKey, began time.Time, restored bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events++
	if restored || err != nil && !errors.Is(err, store.ErrNotFound) {
		return
	}
	now := time.Now()
	h.answered++
	if err != nil {
		h.repeats++
	}
	if key.answered.IsZero() {
		key.answered = now
		h.toAnswer = append(h.toAnswer, now.Sub(began))
		if key.lastServed.After(began) {
			h.toLast = append(h.toLast, key.lastServed.Sub(began))
		} else {
			h.toLast = append(h.toLast, 0)
		}
	}
}

// restored notes that the database went back to an earlier time. What was promised
// of a key that is back is void. One that is not there was deleted before, or is
// not minted yet. If every instance had applied what says that it was minted, the
// key is known to be lost, and so each finds out.
func (h *history) restored(key *simulatedKey, there, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if key.lost = (time.Time{}); !there {
		if known {
			key.lost = time.Now()
		}
		if key.revoking.IsZero() {
			key.revoking = time.Now()
		}
		return
	}
	key.gone, key.restored = nil, true
	if !key.revoking.IsZero() {
		key.revoking, key.answered = time.Now(), time.Time{}
	}
	key.narrowed = true // what was done to it since is undone
}

func (h *history) add(other *history) {
	h.violations = append(h.violations, other.violations...)
	h.events += other.events
	h.accepted += other.accepted
	h.refusals += other.refusals
	h.unavailable += other.unavailable
	h.lapses += other.lapses
	h.cuts += other.cuts
	h.revocations += other.revocations
	h.answered += other.answered
	h.repeats += other.repeats
	h.toAnswer = append(h.toAnswer, other.toAnswer...)
	h.toLast = append(h.toLast, other.toLast...)
}

// percentile sorts the durations.
func percentile(all []time.Duration, p int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[(len(all)-1)*p/100].Round(10 * time.Microsecond)
}
