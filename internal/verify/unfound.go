package verify

import (
	"context"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// How long it is remembered that a string is nobody's key.
const (
	// noneTTL also is how long a client may have to wait that came before its row.
	noneTTL = time.Minute
	// dismissedTTL is for a key that was adopted and is not there any more, as long as
	// it was not searched for to the end.
	dismissedTTL = time.Second
	// endedTTL is for one that was, and that its client goes on to send: for so long it
	// is not searched for again, as long as there are no more candidates than before.
	// The index is asked after each noneTTL.
	endedTTL = 10 * time.Minute
	// lookTTL is how often its row is looked at again all the same, as for a minted key.
	lookTTL = goneTTL
	// unsearchedTTL is for a string that there are too many candidates for.
	unsearchedTTL = time.Minute
)

// unfound says what becomes of a string, and until when.
type unfound struct {
	err     error
	outcome Outcome
	until   time.Time

	// id is what the string was known by once, or zero; reason is why it is not any
	// more, and look when the row is to be looked at again.
	id     store.ID
	reason Reason
	look   time.Time

	// Until sure it need not be searched for, if the candidates have grown as often.
	sure  time.Time
	grown uint64
}

// ended reports whether it was the key of a row once.
func (u *unfound) ended() bool { return u.id != store.ID{} }

// dismiss forgets a hint that led nowhere: its row is gone, is not foreign any more,
// or has the hash of another key. The string is refused at once, and searched for:
// another row may have its hash by now. If that cannot be done, or does not come to an
// end, it is tried again when the string comes later. It reports whether the reason is
// the answer; if not, there is another by now.
func (a *adopter) dismiss(key string, digest [32]byte, id store.ID, reason Reason) bool {
	now := a.v.config.Now()
	a.mu.Lock()
	hint, hinted := a.found.Peek(digest)
	u, known := a.unknown.Peek(digest)
	switch {
	case hinted && hint == id:
		a.found.Remove(digest)
		u = unfound{err: reason, outcome: OutcomeNone, until: now.Add(dismissedTTL), id: id}
	case !hinted && known && u.id == id: // looked at again
		if u.outcome == OutcomeNone {
			u.err = reason
		}
	default:
		a.mu.Unlock()
		return !hinted
	}
	u.reason, u.look = reason, now.Add(lookTTL)
	a.unknown.Add(digest, u)
	a.ended.Add(id, digest)
	a.mu.Unlock()
	if !hinted {
		return false
	}
	_, _ = a.begin(key, digest, now)
	return true
}

// confirm takes note that a string is the key of a row, whether or not it was thought
// to be ended. An entry does not last when another service writes a new hash for the
// same string, so that it is made anew then.
func (a *adopter) confirm(ctx context.Context, row *store.Key, key string, digest [32]byte, rewritten bool) {
	a.mu.Lock()
	if u, ok := a.unknown.Peek(digest); ok && u.id == row.ID {
		a.unknown.Remove(digest)
		a.found.Add(digest, row.ID)
	}
	a.mu.Unlock()
	if rewritten {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		a.enter(ctx, row.ID, row.Hash, key)
	}
}

// conclude ends a search that tried every candidate, or as many as are tried where
// there are too many.
func (a *adopter) conclude(s *search, crowded bool) {
	now := a.v.config.Now()
	u := unfound{err: ReasonUnminted, outcome: OutcomeNone, until: now.Add(noneTTL)}
	a.mu.Lock()
	if id, ok := a.found.Peek(s.digest); ok { // its row has come back
		a.mu.Unlock()
		a.end(s, id, OutcomeMemory, nil)
		return
	}
	if before, ok := a.unknown.Peek(s.digest); ok && before.ended() {
		u.id, u.reason, u.look = before.id, before.reason, before.look
		u.err, u.sure, u.grown = before.reason, now.Add(endedTTL), a.grown.Load()
	}
	if crowded {
		u.err, u.outcome = adopting(unsearchedTTL, "there are too many candidates"), OutcomeBusy
		u.until, u.sure = now.Add(unsearchedTTL), time.Time{}
	}
	a.unknown.Add(s.digest, u)
	a.mu.Unlock()
	a.end(s, store.ID{}, u.outcome, u.err)
}

// stands ends a search that need not be made, and reports whether it did.
func (a *adopter) stands(s *search) bool {
	now := a.v.config.Now()
	a.mu.Lock()
	u, ok := a.unknown.Peek(s.digest)
	if !ok || !now.Before(u.sure) || u.grown != a.grown.Load() {
		a.mu.Unlock()
		return false
	}
	u.until = now.Add(noneTTL)
	a.unknown.Add(s.digest, u)
	a.mu.Unlock()
	a.end(s, store.ID{}, u.outcome, u.err)
	return true
}

// forget has the row be looked at when the string comes next that it was the key of. It
// costs no search: that the row has ended is told too, before or after it was seen.
func (a *adopter) forget(id store.ID) {
	if a == nil {
		return
	}
	digest, ok := a.ended.Peek(id)
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if u, ok := a.unknown.Peek(digest); ok && u.id == id {
		u.look = time.Time{}
		a.unknown.Add(digest, u)
	}
}

// forgetAll has every string looked for again that was found to be nobody's.
func (a *adopter) forgetAll() {
	if a != nil {
		a.unknown.Purge()
	}
}

func (a *adopter) whose(digest [32]byte) (store.ID, bool) {
	if id, ok := a.found.Peek(digest); ok {
		return id, true
	}
	u, ok := a.unknown.Peek(digest)
	return u.id, ok && u.ended()
}
