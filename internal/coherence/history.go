package coherence

import (
	"sync"
	"time"
)

// history remembers when the database was last seen to have another history
// than before: a backup that was restored, or a standby that was promoted. The
// new one may lack members that hold a lease still, so that for one ttl after it
// no revocation is answered on the word of those that are there.
type history struct {
	mu      sync.Mutex
	origin  string
	ttl     time.Duration // the longest of all members ever seen
	changed time.Time     // zero: never
}

func newHistory(ttl time.Duration) *history { return &history{ttl: ttl} }

// see notes the origin of an answer.
func (h *history) see(origin string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.origin != "" && origin != h.origin {
		h.changed = now
	}
	h.origin = origin
}

// broken notes that a place is not in the log any more.
func (h *history) broken(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changed = now
}

// member notes a member's ttl.
func (h *history) member(ttl time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ttl = max(h.ttl, ttl)
}

// longest returns the longest ttl of all members ever seen.
func (h *history) longest() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ttl
}

// changedSince reports whether the database was seen to have another history since
// the time given.
func (h *history) changedSince(t time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed.After(t)
}

// settled returns the time from which the members that are there are all.
func (h *history) settled() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changed.IsZero() {
		return time.Time{}
	}
	return h.changed.Add(h.ttl)
}
