package adopt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// storeTimeout bounds a call on the store.
const storeTimeout = 2 * time.Second

// lookup is the work for one string, for all requests that bring it. Its answer is set
// when done is closed.
type lookup struct {
	done  chan struct{}
	match Match
	err   error
}

// start returns the lookup of a string, and begins it if there is none. If there is
// nothing to wait for, it returns the answer instead.
func (f *Finder) start(key string, digest [32]byte) (*lookup, Match, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, l := f.config.Now(), f.underWay[digest]
	until, searched := f.negative.Get(digest)
	switch {
	case searched && now.Before(until):
		m, err := f.nobody()
		return nil, m, err
	case l != nil:
		return l, Match{}, nil
	case f.ctx.Err() != nil:
		return nil, Match{Outcome: observe.OutcomeFailed}, store.ErrClosed
	case len(f.underWay) >= maxUnderWay, !f.lookups.AllowN(now, 1):
		return nil, Match{Outcome: observe.OutcomeBusy}, &LaterError{time.Second, "too many strings that were not minted here"}
	}
	l = &lookup{done: make(chan struct{})}
	f.underWay[digest] = l
	f.work.Go(func() { f.run(l, key, digest) })
	return l, Match{}, nil
}

// run reads the index, and searches for the string if it is not there.
func (f *Finder) run(l *lookup, key string, digest [32]byte) {
	l.match, l.err = f.indexed(key, digest)
	if errors.Is(l.err, store.ErrNotFound) {
		l.match, l.err = f.search(key, digest)
	}
	if l.match.Outcome == "" { // the error says nothing of the string
		l.match.Outcome, l.err = observe.OutcomeFailed, fmt.Errorf("look for a key that was not minted here: %w", l.err)
	}
	f.mu.Lock()
	delete(f.underWay, digest)
	f.mu.Unlock()
	close(l.done)
}

// indexed returns the row that the string is entered for, or [store.ErrNotFound].
func (f *Finder) indexed(key string, digest [32]byte) (Match, error) {
	if err := f.reading.Acquire(f.ctx, 1); err != nil {
		return Match{}, err
	}
	defer f.reading.Release(1)
	ctx, cancel := context.WithTimeout(f.ctx, storeTimeout)
	defer cancel()
	row, err := f.config.Store.Adopted(ctx, token.ForeignDigests(f.config.Secrets, key))
	if err != nil {
		return Match{}, err
	}
	// Where a secret is being replaced, the entry may be under the one that goes. Then the
	// string is entered once more when it is confirmed.
	if len(f.config.Secrets) > 1 {
		row.Hash = ""
	}
	f.remember(digest, row)
	return Match{row.ID, observe.OutcomeIndex}, nil
}

// search tries the string against every candidate. The candidates are read after the
// string came, so that a row which was there by then is among them. A string that was
// nobody's before still is if there is no new candidate.
func (f *Finder) search(key string, digest [32]byte) (Match, error) {
	if !f.queue.TryAcquire(1) {
		return Match{Outcome: observe.OutcomeBusy}, &LaterError{maxWait, "too many are searched for"}
	}
	defer f.queue.Release(1)
	if err := f.slot.Acquire(f.ctx, 1); err != nil {
		return Match{}, err
	}
	defer f.slot.Release(1)
	candidates, err := f.list()
	if err != nil {
		return Match{}, err
	}
	if f.negative.Contains(digest) {
		return f.conclude(digest)
	}
	for i, c := range candidates {
		hashed, err := phc.Parse(string(c.Hash))
		if err != nil { // the hash is nobody's
			continue
		}
		if err := f.share.Wait(f.ctx); err != nil {
			return Match{}, err
		}
		if f.fits(hashed, key) {
			f.enter(f.ctx, key, c) // so that it is never searched for again
			f.remember(digest, c)
			f.config.Logger.Info("a key of another service was found",
				slog.String("key_id", c.ID.String()), slog.Int("tried", i+1), slog.Int64("candidates_left", f.counted.Add(-1)))
			return Match{c.ID, observe.OutcomeSearch}, nil
		}
	}
	// Another instance may have found the row between our look at the index and the list,
	// so that it was no candidate any more.
	if m, err := f.indexed(key, digest); !errors.Is(err, store.ErrNotFound) {
		return m, err
	}
	return f.conclude(digest)
}

// list reads the candidates. A new candidate may be the row of any string, so all of them
// are looked for again.
func (f *Finder) list() ([]store.Candidate, error) {
	if err := f.share.Wait(f.ctx); err != nil {
		return nil, err
	}
	candidates, total, err := f.unadopted(MaxCandidates)
	if err != nil {
		return nil, err
	}
	f.faults.Do(func() { f.tellFaults(candidates, total) })
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.ContainsFunc(candidates, func(c store.Candidate) bool { return !slices.Contains(f.candidates, c) }) {
		f.negative.Purge()
	}
	f.candidates, f.tooMany = candidates, total > len(candidates)
	return candidates, nil
}

// tellFaults tells the log, once a minute, what an operator has to repair: each candidate
// whose hash cannot be used, and that there are too many candidates.
func (f *Finder) tellFaults(candidates []store.Candidate, total int) {
	if total > len(candidates) {
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

// unadopted reads candidates, and how many there are.
func (f *Finder) unadopted(limit int) ([]store.Candidate, int, error) {
	defer f.share.Spend(time.Now()) //nolint:forbidigo // the share waits by the real clock
	ctx, cancel := context.WithTimeout(f.ctx, 5*storeTimeout)
	defer cancel()
	candidates, total, err := f.config.Store.Unadopted(ctx, f.eras, f.config.Now(), limit)
	if err == nil {
		f.counted.Store(int64(total))
	}
	return candidates, total, err
}

// fits reports whether the string belongs to the hash.
func (f *Finder) fits(hashed *phc.Hashed, key string) bool {
	defer f.share.Spend(time.Now()) //nolint:forbidigo // the share waits by the real clock
	f.runs.Add(1)
	return hashed.Verify(key)
}

// remember keeps what was found for a string.
func (f *Finder) remember(digest [32]byte, row store.Candidate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.found.Add(digest, row)
	f.negative.Remove(digest)
}

// conclude is the answer of a search in vain.
func (f *Finder) conclude(digest [32]byte) (Match, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.negative.Add(digest, f.config.Now().Add(negativeTTL))
	return f.nobody()
}

// nobody is the answer for a string that none of the candidates has which are tried. The
// caller holds the lock.
func (f *Finder) nobody() (Match, error) {
	if f.tooMany {
		return Match{Outcome: observe.OutcomeBusy}, &LaterError{negativeTTL, "there are too many candidates"}
	}
	return Match{Outcome: observe.OutcomeNone}, ErrNotFound
}

// enter makes the entry by which a row is found next time, by every instance.
func (f *Finder) enter(ctx context.Context, key string, row store.Candidate) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	name := token.ForeignDigests(f.config.Secrets[:1], key)[0]
	err := f.config.Store.Adopt(ctx, &store.AdoptedKey{Digest: name, Era: f.eras[0], Key: row.ID, Hash: row.Hash})
	if err != nil && ctx.Err() == nil {
		f.config.Logger.Warn("key of another service not entered, it will be searched for again",
			slog.String("key_id", row.ID.String()), slog.Any("error", err))
	}
}
