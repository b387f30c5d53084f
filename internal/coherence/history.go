package coherence

import (
	"errors"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// history remembers when the database last changed its history: a backup was restored, or a
// standby was promoted. The new history may lack members that still hold a lease. So for
// one ttl after the change, the acknowledgements of the listed members are not enough to
// answer a revocation.
type history struct {
	heads []head // oldest first; for the follower's loop alone

	mu      sync.Mutex
	origin  string
	ttl     time.Duration // the longest ttl of all members ever seen
	changed time.Time     // zero if the history never changed
}

// head is a place at the head of the log. Until is when the last turn was sent that found
// nothing after the place. The next entry of that log was committed after that time.
type head struct {
	place store.Position
	until time.Time
}

// maxHeads bounds how many places are remembered, and so how far back a shared place can be
// found.
const maxHeads = 256

// newHistory makes a history. The ttl is that of this instance, or 0 for a process that is no
// member.
func newHistory(ttl time.Duration) *history { return &history{ttl: ttl} }

// noteOrigin notes the origin of an answer. If it differs from the one before, the history
// has changed.
func (h *history) noteOrigin(origin string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.origin != "" && origin != h.origin {
		h.changed = now
	}
	h.origin = origin
}

// noteBreak notes that a place is not in the log any more.
func (h *history) noteBreak(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changed = now
}

// noteHead notes that a turn, sent at t0, found this place at the head of the log.
func (h *history) noteHead(place store.Position, t0 time.Time) {
	if n := len(h.heads); n > 0 && h.heads[n-1].place == place {
		h.heads[n-1].until = t0
		return
	}
	if len(h.heads) == maxHeads {
		h.heads = slices.Delete(h.heads, 0, maxHeads/2)
	}
	h.heads = append(h.heads, head{place, t0})
}

// sharedUntil finds the last remembered place that is also in the log of the new history. It
// returns until when nothing came after that place, or zero if no remembered place is in
// the log. It forgets the places after that one. InLog asks the database.
func (h *history) sharedUntil(inLog func(store.Position) (bool, error)) (until time.Time, err error) {
	// If a place is not in the log, no later place is. So a binary search finds the last one.
	n := sort.Search(len(h.heads), func(n int) bool {
		there, failed := inLog(h.heads[n].place)
		err = errors.Join(err, failed)
		return !there
	})
	if err != nil {
		h.heads = nil // some of these places are in no log any more
		return time.Time{}, err
	}
	if h.heads = h.heads[:n]; n == 0 {
		return time.Time{}, nil
	}
	return h.heads[n-1].until, nil
}

// noteTTL notes a member's ttl. The longest is kept for ever: a member that is not listed any
// more may still hold its lease.
func (h *history) noteTTL(ttl time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ttl = max(h.ttl, ttl)
}

// longestTTL returns the longest ttl of all members ever seen.
func (h *history) longestTTL() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ttl
}

// changedSince reports whether the history has changed since the time given.
//
// A revocation that was committed before the change may be missing in the new history.
func (h *history) changedSince(t time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed.After(t)
}

// settledAt returns the time from which the listed members are all that can hold a lease:
// one ttl after the last change of the history. It is zero if there was no change.
func (h *history) settledAt() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changed.IsZero() {
		return time.Time{}
	}
	return h.changed.Add(h.ttl)
}
