package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// countInterval is how often the candidates are counted, for metrics.
const countInterval = 30 * time.Second

// search is the search for one string. What came of it is set when done is closed.
type search struct {
	key    string
	digest [32]byte
	done   chan struct{}

	id      store.ID
	outcome Outcome
	err     error
}

func (a *adopter) end(s *search, id store.ID, outcome Outcome, err error) {
	s.id, s.outcome, s.err = id, outcome, err
	a.mu.Lock()
	delete(a.under, s.digest)
	a.mu.Unlock()
	close(s.done)
}

func (a *adopter) succeed(s *search, id store.ID, outcome Outcome) {
	a.mu.Lock()
	a.found.Add(s.digest, id)
	a.unknown.Remove(s.digest)
	a.mu.Unlock()
	a.end(s, id, outcome, nil)
}

// fail ends a search that says nothing of the string.
func (a *adopter) fail(s *search, err error) {
	a.end(s, store.ID{}, OutcomeFailed, unavailable(fmt.Errorf("look for a key that was not minted here: %w", err)))
}

// lookUp asks the index, and has the string searched for if it is not there.
func (a *adopter) lookUp(s *search) {
	id, err := a.indexed(s.key)
	switch {
	case err == nil:
		a.succeed(s, id, OutcomeIndex)
		return
	case !errors.Is(err, store.ErrNotFound):
		a.fail(s, err)
		return
	case a.stands(s):
		return
	}
	select {
	case a.queue <- s:
	default:
		a.end(s, store.ID{}, OutcomeBusy, adopting(findWait, "too many are searched for"))
	}
}

// indexed returns the key that is entered under the string.
func (a *adopter) indexed(key string) (store.ID, error) {
	if err := a.reading.Acquire(a.ctx, 1); err != nil {
		return store.ID{}, err
	}
	defer a.reading.Release(1)
	ctx, cancel := context.WithTimeout(a.ctx, lookupTimeout)
	defer cancel()
	digests := a.names.digests(key)
	found, err := a.foreign.Adopted(ctx, digests[:1])
	if !errors.Is(err, store.ErrNotFound) || len(digests) == 1 {
		return found.ID, err
	}
	if found, err = a.foreign.Adopted(ctx, digests[1:]); err != nil {
		return store.ID{}, err
	}
	// Under a secret that will not be accepted for ever. With the hash that the entry
	// is for, and not with one that the row was given since.
	a.enter(ctx, found.ID, found.Hash, key)
	return found.ID, nil
}

// enter makes the entry by which a key is found next time.
func (a *adopter) enter(ctx context.Context, id store.ID, hash store.Hash, key string) {
	err := a.foreign.Adopt(ctx, &store.AdoptedKey{Digest: a.names.digests(key)[0], Era: a.eras[0], Key: id, Hash: hash})
	if err != nil && ctx.Err() == nil {
		a.v.config.Logger.Warn("key of another service not entered, it will be searched for again",
			slog.String("key_id", id.String()), slog.Any("error", err))
	}
}

// run searches, one string after another, until the end.
func (a *adopter) run() {
	a.count()
	tick := time.NewTicker(countInterval)
	defer tick.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return
		case s := <-a.queue:
			a.search(s)
		case <-tick.C:
			a.count()
		}
	}
}

func (a *adopter) count() {
	if _, _, err := a.list(1); err != nil && a.ctx.Err() == nil {
		a.v.config.Logger.Warn("keys of other services cannot be counted", slog.Any("error", err))
	}
}

// list returns candidates, and how many there are. The time that it takes is spent
// like that of a computation.
func (a *adopter) list(limit int) ([]store.Candidate, int, error) {
	ctx, cancel := context.WithTimeout(a.ctx, 5*lookupTimeout)
	defer cancel()
	began := a.v.config.Now()
	candidates, total, err := a.foreign.Unadopted(ctx, a.eras, began, limit)
	a.spent.spend(a.v.config.Now().Sub(began))
	if err != nil {
		return nil, 0, err
	}
	if a.candidates.Swap(int64(total)) < int64(total) {
		a.grown.Add(1)
	}
	if total > MaxCandidates {
		a.crowded.Do(func() {
			a.v.config.Logger.Error("there are more keys of other services than are searched: strings that are none of the oldest get 503. "+
				"Delete those that are not used, or mint them anew", slog.Int("candidates", total), slog.Int("searched", MaxCandidates))
		})
	}
	return candidates, total, nil
}

// search tries the string against every candidate. The candidates are read after the
// string came, so that a row which was there by then is among them.
func (a *adopter) search(s *search) {
	if a.spent.wait(a.ctx) != nil {
		return // whoever waits sees the end itself
	}
	candidates, total, err := a.list(MaxCandidates)
	if err != nil {
		a.fail(s, err)
		return
	}
	for i := range candidates {
		if a.spent.wait(a.ctx) != nil {
			return
		}
		same, err := a.try(&candidates[i], s.key)
		switch {
		case err != nil:
			a.fail(s, err)
			return
		case same:
			a.keep(s, &candidates[i])
			a.v.config.Logger.Info("a key of another service was found",
				slog.String("key_id", candidates[i].ID.String()), slog.Int("tried", i+1), slog.Int("candidates_left", total-1))
			return
		}
	}
	// Another instance may have found it between our look at the index and the list,
	// and its row is no candidate since.
	switch id, err := a.indexed(s.key); {
	case err == nil:
		a.succeed(s, id, OutcomeIndex)
		return
	case !errors.Is(err, store.ErrNotFound):
		a.fail(s, err)
		return
	}
	a.conclude(s, total > len(candidates))
}

// try reports whether the string belongs to the candidate's hash. One that cannot be
// used is nobody's.
func (a *adopter) try(c *store.Candidate, key string) (bool, error) {
	hashed, err := phc.Parse(string(c.Hash))
	if err != nil {
		a.complain(c.ID, err)
		return false, nil
	}
	began := a.v.config.Now()
	same, err := a.slot.Verify(a.ctx, hashed, key)
	a.spent.spend(a.v.config.Now().Sub(began))
	return same, err
}

// unusableInterval is how often the log is told of the same hash.
const unusableInterval = time.Minute

// complain tells the log of a hash that cannot be used. There may be many, and an
// operator has to find each.
func (a *adopter) complain(id store.ID, err error) {
	now := a.v.config.Now()
	if told, ok := a.unusable.Get(id); ok && now.Sub(told) < unusableInterval {
		return
	}
	a.unusable.Add(id, now)
	a.v.config.Logger.Error("stored hash of another service is unusable, the key cannot be adopted and its client gets 401",
		slog.String("key_id", id.String()), slog.Any("error", err))
}

// keep remembers what was found, here and for others, so that what comes next need
// not compute it again.
func (a *adopter) keep(s *search, c *store.Candidate) {
	ctx, cancel := context.WithTimeout(a.ctx, lookupTimeout)
	defer cancel()
	a.enter(ctx, c.ID, c.Hash, s.key)
	fingerprint := coherence.Fingerprint(c.Hash)
	a.v.known.keep(c.ID, fingerprint, s.digest)
	a.v.prover.keep(ctx, c.ID, fingerprint, s.digest)
	a.candidates.Add(-1)
	a.succeed(s, c.ID, OutcomeSearch)
}
