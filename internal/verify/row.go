package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// ErrUnfollowed is the cause of an [UnavailableError]: the key came from a table whose changes
// do not get here.
var ErrUnfollowed = errors.New("the table that the key came from is not followed any more, although it should be")

// presented is a key as a request has sent it. It is made once and handed on.
type presented struct {
	id     store.ID
	key    string
	digest [32]byte // see [token.Digest]
	minted bool     // by this system
	client string   // the address of who has sent it
}

// fill verifies the key and, if it is good, puts it into L1. It also returns nil if the entry
// was not stored because the key was forgotten meanwhile. The caller finds no entry then,
// and tries again.
func (v *Verifier) fill(ctx context.Context, p *presented) error {
	g := v.l1.generation(p.id) // before the row is read
	started := v.config.Now()
	row, err := v.verified(ctx, p)
	if err == nil {
		e := newEntry(p.digest, row, started.Add(v.entryAge()))
		e.claim.Adopted = !p.minted
		v.l1.put(g, e)
	}
	return err
}

// entryAge is how long an entry is believed. It is random within a tenth, so that entries
// that were made at the same time do not end at the same time.
func (v *Verifier) entryAge() time.Duration {
	return v.config.MaxAge*9/10 + rand.N(v.config.MaxAge/5+1) //nolint:gosec // spreads load
}

// verified reads the key's row and verifies the key against it.
func (v *Verifier) verified(ctx context.Context, p *presented) (*store.Key, error) {
	began := v.config.Now()
	row, values, err := v.read(ctx, p.id)
	if err != nil {
		return nil, err
	}
	if !row.Foreign && !p.minted {
		return nil, ReasonUnminted // package adopt has found a row that is only for keys of ours
	}
	hashed, err := phc.Parse(string(row.Hash))
	if err != nil {
		v.unusable.Do(func() {
			v.config.Logger.Error("stored hash is unusable, the key cannot be verified",
				slog.String("key_id", p.id.String()), slog.Any("error", err))
		})
		return nil, unanswered(fmt.Errorf("key %s: %w", p.id, err))
	}
	path, err := v.prove(ctx, row, hashed, p, values)
	if err == nil || errors.Is(err, ErrInvalidToken) {
		v.config.Meter.Verified(path, v.config.Now().Sub(began))
	}
	if err != nil {
		return nil, err
	}
	if !p.minted {
		v.config.Adopt.Confirm(ctx, p.key, p.digest, row)
	}
	if hashed.Params().WeakerThan(v.config.Slots.Params()) {
		v.renewer.offer(renewal{id: p.id, key: p.key, digest: p.digest, old: row.Hash})
	}
	return row, nil
}

// read reads the row and, at the same time, the proofs in the shared cache. It returns a
// function that waits for the proofs.
func (v *Verifier) read(ctx context.Context, id store.ID) (*store.Key, func() [][]byte, error) {
	// If this process has a proof already, the cache is most likely not needed. It is
	// asked only if the row has another hash by now. The cache has a deadline of its own:
	// if its read were canceled when the row has come, that would count as its failure.
	values := func() [][]byte { return v.shared.fetch(ctx, id)() }
	if !v.local.proofs.Contains(id) { // which is no use of the proof
		values = v.shared.fetch(ctx, id)
	}
	row, err := v.readRow(ctx, id)
	return row, values, err
}

// readRow reads the row of a key. A key that is gone or has expired goes into the negative
// cache.
func (v *Verifier) readRow(ctx context.Context, id store.ID) (*store.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	v.rowReads.Add(1)
	started := v.config.Now()
	row, err := v.config.Store.Key(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		// Requests that would still be accepted from memory must be refused too.
		v.l1.forget(id)
		v.negatives.add(id, ReasonRevoked, started)
		return nil, ReasonRevoked
	case err != nil:
		return nil, unanswered(fmt.Errorf("read key %s: %w", id, err))
	case row.Expired(started):
		v.l1.forget(id)
		v.negatives.add(id, ReasonExpired, started)
		return nil, ReasonExpired
	case row.Imported() && v.config.Lease.Unfollowed():
		return nil, Unavailable(ReasonUnfollowed, ErrUnfollowed)
	}
	return row, nil
}

// prove returns nil if the key belongs to the row's hash. The path says how this was found
// out: it was known already, there was a proof in the shared cache, or Argon2id has run.
func (v *Verifier) prove(
	ctx context.Context, row *store.Key, hashed *phc.Hashed, p *presented, values func() [][]byte,
) (observe.Path, error) {
	fingerprint := coherence.Fingerprint(row.Hash)
	switch v.local.check(row.ID, fingerprint, p.digest) {
	case proven:
		return observe.PathRow, nil
	case refuted:
		return observe.PathRow, ReasonMismatch
	case unproven:
	}
	switch v.shared.check(values(), row.ID, fingerprint, p.digest) {
	case proven:
		v.local.keep(row.ID, fingerprint, p.digest)
		return observe.PathProof, nil
	case refuted:
		return observe.PathProof, ReasonMismatch
	case unproven:
	}
	matches, err := v.config.Slots.Verify(ctx, hashed, p.key)
	switch {
	case err != nil:
		return observe.PathArgon2id, Unavailable(ReasonBusy, err)
	case !matches:
		v.local.refute(fingerprint, p.digest)
		return observe.PathArgon2id, ReasonMismatch
	}
	v.keep(ctx, row.ID, fingerprint, p.digest)
	return observe.PathArgon2id, nil
}
