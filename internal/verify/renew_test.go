package verify_test

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// strong is dearer than cheap in every parameter but one.
var strong = phc.Params{Memory: 128, Iterations: 2, Parallelism: 1}

func TestAWeakHashIsRenewedAfterItsNextUse(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *verify.Config) { c.Slots = hashing.NewSlots(strong, 1<<20) })
	f.clock.freeze()
	id, key := f.mint(t, "weak")
	before := f.store.row(id).Hash
	mustVerify(t, f, key)
	for f.store.row(id).Hash == before {
		runtime.Gosched()
	}
	renewed, err := phc.Parse(string(f.store.row(id).Hash))
	if err != nil {
		t.Fatal(err)
	}
	if renewed.Params() != strong || !renewed.Verify(key) {
		t.Errorf("renewed with %+v", renewed.Params())
	}
	runs := f.verifier.Stats().Argon2Runs
	for range 3 {
		f.clock.advance(maxAge)
		mustVerify(t, f, key)
	}
	if n := f.verifier.Stats().Argon2Runs - runs; n > 1 {
		// One at most: the row may have been seen before its proof was kept.
		t.Errorf("the new hash was computed %d times more", n)
	}
}

func TestAHashIsNeverWeakened(t *testing.T) {
	t.Parallel()
	for _, stored := range []phc.Params{
		{Memory: 256, Iterations: 2, Parallelism: 1}, // stronger
		{Memory: 64, Iterations: 9, Parallelism: 1},  // weaker in one, stronger in another
		strong,
	} {
		f := newFixture(t, func(c *verify.Config) { c.Slots = hashing.NewSlots(strong, 1<<20) })
		id, key := f.mintHashed(t, stored, store.Key{Label: "kept"})
		before := f.store.row(id).Hash
		mustVerify(t, f, key)
		f.verifier.Close() // waits for the renewals
		if f.store.row(id).Hash != before {
			t.Errorf("%+v was replaced", stored)
		}
	}
}

func TestAKeyRevokedBeforeItsRenewalStaysRevoked(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *verify.Config) { c.Slots = hashing.NewSlots(strong, 1<<20) })
	id, key := f.mint(t, "weak")
	mustVerify(t, f, key)
	f.store.remove(id)
	f.verifier.Close()
	if f.store.row(id).ID == id {
		t.Error("a renewal brought a revoked key back")
	}
}

// TestARehashElsewhereCostsNoArgon2id has an instance that knows a key by its old
// hash when another one stores a new hash and a proof for it.
func TestARehashElsewhereCostsNoArgon2id(t *testing.T) {
	t.Parallel()
	a := withFixtureProofs(t)
	a.clock.freeze()
	id, key := a.mint(t, "weak")
	mustVerify(t, a, key)

	b := a.second(t, firstSecret)
	hash, err := phc.Hash(key, strong)
	if err != nil {
		t.Fatal(err)
	}
	row := a.store.row(id)
	row.Hash = store.Hash(hash)
	a.store.put(row)
	mustVerify(t, b, key) // computes, and keeps the proof
	runs := a.verifier.Stats().Argon2Runs
	a.clock.advance(maxAge)
	mustVerify(t, a, key)
	if n := a.verifier.Stats().Argon2Runs - runs; n != 0 {
		t.Errorf("%d Argon2id computations beside the proof", n)
	}
}

// TestAStoreThatRefusesNewHashesIsLeftAlone has a role that may not update.
func TestAStoreThatRefusesNewHashesIsLeftAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *verify.Config) {
		c.Slots = hashing.NewSlots(strong, 1<<20)
		c.MaxAge = time.Second
	})
	f.clock.freeze()
	f.store.setRehash(errors.New("permission denied"))
	_, key := f.mint(t, "weak")
	mustVerify(t, f, key)
	for f.verifier.Stats().Argon2Runs < 2 { // the verification and one renewal
		runtime.Gosched()
	}
	for range 20 {
		f.clock.advance(2 * time.Second) // the renewer rests for longer than all of them
		mustVerify(t, f, key)
	}
	// One more at most: the renewal may not have failed yet when it was next offered.
	f.verifier.Close()
	if n := f.verifier.Stats().Argon2Runs; n > 3 {
		t.Errorf("%d Argon2id computations", n)
	}
}
