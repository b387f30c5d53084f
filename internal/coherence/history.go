package coherence

import (
	"errors"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// history remembers when the database was last seen to have another history
// than before: a backup that was restored, or a standby that was promoted. The
// new one may lack members that hold a lease still, so that for one ttl after it
// no revocation is answered on the word of those that are there.
type history struct {
	passed []passage // of the loop alone

	mu      sync.Mutex
	origin  string
	ttl     time.Duration // the longest of all members ever seen
	changed time.Time     // zero: never
}

// passage is a place where this instance was at the head of the log, and when the
// last turn was sent that found nothing after it: what came next in that log was
// committed later.
type passage struct {
	place store.Position
	until time.Time
}

// maxPassed bounds how far back a shared place is looked for.
const maxPassed = 256

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

// pass notes that a turn, sent at t0, found this place at the head of the log.
func (h *history) pass(place store.Position, t0 time.Time) {
	if n := len(h.passed); n > 0 && h.passed[n-1].place == place {
		h.passed[n-1].until = t0
		return
	}
	if len(h.passed) == maxPassed {
		h.passed = slices.Delete(h.passed, 0, maxPassed/2)
	}
	h.passed = append(h.passed, passage{place, t0})
}

// shared looks for the last place that is in the log that there is now too, and
// returns until when nothing came after it. It returns zero if there is none among
// those that are remembered. What came after the place is forgotten.
func (h *history) shared(inLog func(store.Position) (bool, error)) (until time.Time, err error) {
	n := sort.Search(len(h.passed), func(n int) bool {
		there, failed := inLog(h.passed[n].place)
		err = errors.Join(err, failed)
		return !there
	})
	if err != nil {
		h.passed = nil // some of it is in no log any more
		return time.Time{}, err
	}
	if h.passed = h.passed[:n]; n == 0 {
		return time.Time{}, nil
	}
	return h.passed[n-1].until, nil
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
