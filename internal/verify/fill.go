package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// lookupTimeout bounds the read of a row.
const lookupTimeout = 2 * time.Second

// fill finds out whether the key is good and, if so, puts it into L1. It
// returns nil also when the entry was not stored because the key was forgotten
// meanwhile; the caller looks and tries again.
//
// A proof that had to be computed may have waited for a slot, long enough for
// the row to be gone. It is then read again, which costs no second computation.
func (v *Verifier) fill(ctx context.Context, id store.ID, key string, digest [32]byte) error {
	for range attempts {
		took, err := v.fillOnce(ctx, id, key, digest)
		if err != nil || took <= v.config.Trust/4 {
			return err
		}
	}
	return nil
}

// fillOnce is one attempt. It says how long after the row was read the entry was
// stored.
func (v *Verifier) fillOnce(
	ctx context.Context, id store.ID, key string, digest [32]byte,
) (took time.Duration, err error) {
	generation := v.l1.generation(id) // before the row is read
	started := v.config.Now()

	row, values, err := v.read(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		// What this instance now knows holds for the requests that would still
		// have been served from memory.
		v.l1.forget(id)
		v.gone.add(id, ReasonUnknown, started)
		return 0, ReasonUnknown
	case err != nil:
		return 0, unavailable(fmt.Errorf("read key %s: %w", id, err))
	case row.Expired(started):
		v.l1.forget(id)
		v.gone.add(id, ReasonExpired, started)
		return 0, ReasonExpired
	}
	received := v.config.Now()

	hashed, err := phc.Parse(string(row.Hash))
	if err != nil {
		v.unusable.Do(func() {
			v.config.Logger.Error("stored hash is unusable, the key cannot be verified",
				slog.String("key_id", id.String()), slog.Any("error", err))
		})
		return 0, unavailable(fmt.Errorf("key %s: %w", id, err))
	}
	if err := v.prove(ctx, row, hashed, key, digest, values); err != nil {
		return 0, err
	}
	if hashed.Params().WeakerThan(v.config.Slots.Params()) {
		v.renewer.offer(renewal{id: id, key: key, digest: digest, old: row.Hash})
	}
	v.l1.put(generation, newEntry(digest, identityOf(row), started.Add(v.config.Trust)))
	return v.config.Now().Sub(received), nil
}

// read gets the row and, at the same time, what the shared cache has for it.
func (v *Verifier) read(ctx context.Context, id store.ID) (*store.Key, func() [][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	// Not the deadline of the row: cancelling a read of the cache after the row
	// has come would count as a failure of the cache.
	detached := context.WithoutCancel(ctx)
	// Where a hash is known already the cache is most likely not needed, and is
	// asked only if it turns out that the hash is another by now.
	values := func() [][]byte { return v.prover.fetch(detached, id)() }
	if !v.known.has(id) {
		values = v.prover.fetch(detached, id)
	}
	v.rowReads.Add(1)
	row, err := v.config.Store.Key(ctx, id)
	return row, values, err
}

// prove returns nil if the key belongs to the row's hash: known from before, by
// a proof, or computed now.
func (v *Verifier) prove(
	ctx context.Context, row *store.Key, hashed *phc.Hashed, key string, digest [32]byte, values func() [][]byte,
) error {
	fingerprint := sha256.Sum256([]byte(row.Hash))
	switch v.known.check(row.ID, fingerprint, digest) {
	case proven:
		return nil
	case refuted:
		return ReasonMismatch
	case unproven:
	}
	switch v.prover.check(values(), row.ID, fingerprint, digest) {
	case proven:
		v.known.keep(row.ID, fingerprint, digest)
		return nil
	case refuted:
		return ReasonMismatch
	case unproven:
	}
	same, err := v.config.Slots.Verify(ctx, hashed, key)
	switch {
	case err != nil:
		return unavailable(err)
	case !same:
		v.known.refute(fingerprint, digest)
		return ReasonMismatch
	}
	v.known.keep(row.ID, fingerprint, digest)
	v.prover.keep(ctx, row.ID, fingerprint, digest)
	return nil
}
