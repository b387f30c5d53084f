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

// lookupTimeout bounds the read of a row.
const lookupTimeout = 2 * time.Second

// fill finds out whether the key is good and, if so, puts it into L1. It
// returns nil also when the entry was not stored because the key was forgotten
// meanwhile; the caller looks and tries again.
func (v *Verifier) fill(ctx context.Context, id store.ID, key string, digest [32]byte) error {
	g := v.l1.generation(id) // before the row is read
	started := v.config.Now()
	row, err := v.verified(ctx, id, key, digest)
	if err == nil {
		e := newEntry(digest, row, started.Add(v.age()))
		e.claim.Adopted = !v.minted(key)
		v.l1.put(g, e)
	}
	return err
}

// verified reads the key's row and verifies the key against it.
func (v *Verifier) verified(ctx context.Context, id store.ID, key string, digest [32]byte) (*store.Key, error) {
	began := v.config.Now()
	row, values, err := v.read(ctx, id)
	if err != nil {
		return nil, err
	}
	if !row.Foreign && !v.minted(key) {
		return nil, ReasonUnminted // a hint led here that may not: the row is for keys of ours
	}
	hashed, err := phc.Parse(string(row.Hash))
	if err != nil {
		v.unusable.Do(func() {
			v.config.Logger.Error("stored hash is unusable, the key cannot be verified",
				slog.String("key_id", id.String()), slog.Any("error", err))
		})
		return nil, unavailable(fmt.Errorf("key %s: %w", id, err))
	}
	before := v.known.has(id)
	path, err := v.prove(ctx, row, hashed, key, digest, values)
	if err == nil || errors.Is(err, ErrInvalidToken) {
		v.config.Meter.Verified(path, v.config.Now().Sub(began))
	}
	if err != nil {
		return nil, err
	}
	if v.adopter != nil && row.Foreign && !v.minted(key) {
		// What was known of the id was another hash, if this one had to be computed.
		v.adopter.confirm(ctx, row, key, digest, before && path == PathArgon2id)
	}
	if hashed.Params().WeakerThan(v.config.Slots.Params()) {
		v.renewer.offer(renewal{id: id, key: key, digest: digest, old: row.Hash})
	}
	return row, nil
}

// minted reports whether this system minted the key.
func (v *Verifier) minted(key string) bool {
	_, err := v.config.Minter.Parse(key)
	return err == nil
}

// read gets the row and, at the same time, what the shared cache has for it.
func (v *Verifier) read(ctx context.Context, id store.ID) (*store.Key, func() [][]byte, error) {
	// Where a hash is known already the cache is most likely not needed, and is
	// asked only if it turns out that the hash is another by now. It has a
	// deadline of its own: to cancel a read of the cache after the row has come
	// would count as a failure of the cache.
	values := func() [][]byte { return v.prover.fetch(ctx, id)() }
	if !v.known.has(id) {
		values = v.prover.fetch(ctx, id)
	}
	row, err := v.readRow(ctx, id)
	return row, values, err
}

// readRow reads the row of a key whose time is not over.
func (v *Verifier) readRow(ctx context.Context, id store.ID) (*store.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	v.rowReads.Add(1)
	started := v.config.Now()
	row, err := v.config.Store.Key(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		// What this instance now knows holds for the requests that would still
		// have been served from memory.
		v.l1.forget(id)
		v.gone.add(id, ReasonUnknown, started)
		return nil, ReasonUnknown
	case err != nil:
		return nil, unavailable(fmt.Errorf("read key %s: %w", id, err))
	case row.Expired(started):
		v.l1.forget(id)
		v.gone.add(id, ReasonExpired, started)
		return nil, ReasonExpired
	}
	return row, nil
}

// prove returns nil if the key belongs to the row's hash, and how it was found out:
// known from before, by a proof, or computed now.
func (v *Verifier) prove(
	ctx context.Context, row *store.Key, hashed *phc.Hashed, key string, digest [32]byte, values func() [][]byte,
) (Path, error) {
	fingerprint := coherence.Fingerprint(row.Hash)
	switch v.known.check(row.ID, fingerprint, digest) {
	case proven:
		return PathRow, nil
	case refuted:
		return PathRow, ReasonMismatch
	case unproven:
	}
	switch v.prover.check(values(), row.ID, fingerprint, digest) {
	case proven:
		v.known.keep(row.ID, fingerprint, digest)
		return PathProof, nil
	case refuted:
		return PathProof, ReasonMismatch
	case unproven:
	}
	same, err := v.config.Slots.Verify(ctx, hashed, key)
	switch {
	case err != nil:
		return PathArgon2id, unavailable(err)
	case !same:
		v.known.refute(fingerprint, digest)
		return PathArgon2id, ReasonMismatch
	}
	v.known.keep(row.ID, fingerprint, digest)
	v.prover.keep(ctx, row.ID, fingerprint, digest)
	return PathArgon2id, nil
}
