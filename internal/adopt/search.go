package adopt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// search is the search for one string, for all requests that bring it. Its answer is set
// when done is closed.
type search struct {
	done  chan struct{}
	match Match
	err   error
}

// wait returns what came of a search, or says that it goes on.
func (f *Finder) wait(ctx context.Context, s *search) (Match, error) {
	defer f.requests.Add(-1)
	if f.requests.Add(1) > maxWaiters {
		return Match{Outcome: OutcomeBusy}, &LaterError{time.Second, "too many wait"}
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case <-s.done:
		return s.match, s.err
	case <-timer.C:
		return Match{Outcome: OutcomeWaiting}, &LaterError{maxWait, "it is searched for"}
	case <-f.ctx.Done():
		return Match{Outcome: OutcomeFailed}, store.ErrClosed
	case <-ctx.Done():
		return Match{}, ctx.Err()
	}
}

// start returns the search for a string, and begins it if there is none.
func (f *Finder) start(key string, digest [32]byte) *search {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.underWay[digest]; s != nil {
		return s
	}
	s := &search{done: make(chan struct{})}
	switch {
	case f.ctx.Err() != nil:
		s.match.Outcome, s.err = OutcomeFailed, store.ErrClosed
		close(s.done)
	case len(f.underWay) >= maxUnderWay, !f.lookups.AllowN(f.config.Now(), 1):
		s.match.Outcome, s.err = OutcomeBusy, &LaterError{time.Second, "too many strings that were not minted here"}
		close(s.done)
	default:
		f.underWay[digest] = s
		f.work.Go(func() { f.run(s, key, digest) })
	}
	return s
}

func (f *Finder) run(s *search, key string, digest [32]byte) {
	s.match, s.err = f.look(key, digest)
	if s.match.Outcome == "" {
		s.match.Outcome, s.err = OutcomeFailed, fmt.Errorf("look for a key that was not minted here: %w", s.err)
	}
	f.mu.Lock()
	delete(f.underWay, digest)
	f.mu.Unlock()
	close(s.done)
}

// look reads the index, and searches for the string if it is not there. An error without
// an outcome says nothing of the string.
func (f *Finder) look(key string, digest [32]byte) (Match, error) {
	if m, err := f.indexed(key, digest); !errors.Is(err, store.ErrNotFound) {
		return m, err
	}
	defer f.searches.Add(-1)
	if f.searches.Add(1) > 1+maxSearches {
		return Match{Outcome: OutcomeBusy}, &LaterError{maxWait, "too many are searched for"}
	}
	if err := f.slot.Acquire(f.ctx, 1); err != nil {
		return Match{}, err
	}
	defer f.slot.Release(1)
	return f.search(key, digest)
}

// search tries the string against every candidate. The candidates are read after the
// string came, so that a row which was there by then is among them. A string that was
// nobody's before still is if there is no new candidate.
func (f *Finder) search(key string, digest [32]byte) (Match, error) {
	candidates, err := f.list()
	if err != nil {
		return Match{}, err
	}
	if f.nobody.Contains(digest) {
		return f.conclude(digest)
	}
	for i, c := range candidates {
		hashed, err := phc.Parse(string(c.Hash))
		if err != nil { // the hash is nobody's
			continue
		}
		if err := f.budget.Wait(f.ctx); err != nil {
			return Match{}, err
		}
		if f.fits(hashed, key) {
			f.enter(f.ctx, c.ID, c.Hash, key) // so that it is never searched for again
			f.config.Logger.Info("a key of another service was found",
				slog.String("key_id", c.ID.String()), slog.Int("tried", i+1), slog.Int64("candidates_left", f.candidates.Add(-1)))
			fingerprint := coherence.Fingerprint(c.Hash)
			return f.remember(digest, hint{Match: Match{c.ID, fingerprint, OutcomeSearch}, entered: fingerprint})
		}
	}
	// Another instance may have found the row between our look at the index and the list,
	// so that it was no candidate any more.
	if m, err := f.indexed(key, digest); !errors.Is(err, store.ErrNotFound) {
		return m, err
	}
	return f.conclude(digest)
}

// list reads the candidates. A new candidate may be the row of any string.
func (f *Finder) list() ([]store.Candidate, error) {
	if err := f.budget.Wait(f.ctx); err != nil {
		return nil, err
	}
	candidates, total, err := f.unadopted(MaxCandidates)
	if err != nil {
		return nil, err
	}
	crowded := total > len(candidates)
	f.faults.Do(func() { f.tellFaults(candidates, total, crowded) })
	f.mu.Lock()
	defer f.mu.Unlock()
	isNew := func(c store.Candidate) bool { return !slices.Contains(f.seen, c) }
	if crowded && !f.crowded || slices.ContainsFunc(candidates, isNew) {
		f.nobody.Purge()
	}
	f.seen, f.crowded = candidates, crowded
	return candidates, nil
}

// tellFaults tells the log, once a minute, what an operator has to repair: each candidate
// whose hash cannot be used, and that there are too many candidates.
func (f *Finder) tellFaults(candidates []store.Candidate, total int, crowded bool) {
	if crowded {
		f.config.Logger.Error("there are more keys of other services than are searched: strings that are none of the oldest get 503. "+
			"Delete those that are not used, or mint them anew", slog.Int("candidates", total), slog.Int("searched", MaxCandidates))
	}
	for _, c := range candidates {
		if _, err := phc.Parse(string(c.Hash)); err != nil {
			f.config.Logger.Error("stored hash of another service is unusable, the key cannot be adopted and its client gets 401",
				slog.String("key_id", c.ID.String()), slog.Any("error", err))
		}
	}
}

// fits reports whether the string belongs to the hash.
func (f *Finder) fits(hashed *phc.Hashed, key string) bool {
	defer f.spend(time.Now()) //nolint:forbidigo // the budget waits by the real clock
	f.runs.Add(1)
	return hashed.Verify(key)
}

// remember keeps what was found for a string.
func (f *Finder) remember(digest [32]byte, h hint) (Match, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.found.Add(digest, h)
	f.nobody.Remove(digest)
	return h.Match, nil
}

// conclude is the answer of a search in vain.
func (f *Finder) conclude(digest [32]byte) (Match, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h, ok := f.found.Peek(digest); ok && h.refused.IsZero() { // its row has come back
		h.Outcome = OutcomeMemory
		return h.Match, nil
	}
	f.nobody.Add(digest, f.config.Now().Add(nobodyTTL))
	return f.nothing()
}

// nothing is the answer for a string that none of the candidates has which are tried. The
// caller holds the lock.
func (f *Finder) nothing() (Match, error) {
	if f.crowded {
		return Match{Outcome: OutcomeBusy}, &LaterError{nobodyTTL, "there are too many candidates"}
	}
	return Match{Outcome: OutcomeNone}, ErrNotFound
}

// unadopted reads candidates, and how many there are.
func (f *Finder) unadopted(limit int) ([]store.Candidate, int, error) {
	defer f.spend(time.Now()) //nolint:forbidigo // the budget waits by the real clock
	ctx, cancel := context.WithTimeout(f.ctx, 5*storeTimeout)
	defer cancel()
	candidates, total, err := f.config.Store.Unadopted(ctx, f.eras, f.config.Now(), limit)
	if err == nil {
		f.candidates.Store(int64(total))
	}
	return candidates, total, err
}

// newBudget is the time that searches may take, in microseconds: so much at once, and a
// share of one processor from then on. A computation holds a processor for some twenty
// milliseconds. If there is no other processor everybody waits for it, so searches have to
// be rare there.
func newBudget(processors int) *rate.Limiter {
	burst, share := 30*time.Second, 0.25
	if processors == 1 {
		burst, share = 3*time.Second, 0.02
	}
	return rate.NewLimiter(rate.Limit(share*1e6), int(burst.Microseconds()))
}

// spend takes from the budget what has passed since then. This is known when a piece of
// work is done, so the budget may be overdrawn by one piece. The time is that of the clock:
// if the processors are busy a computation takes longer, and searches become rarer.
func (f *Finder) spend(began time.Time) {
	now := time.Now() //nolint:forbidigo // the budget waits by the real clock
	f.budget.ReserveN(now, min(int(now.Sub(began).Microseconds()), f.budget.Burst()))
}
