package verify_test

import (
	"runtime"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// strong is dearer than cheap in every parameter but one.
var strong = phc.Params{Memory: 128, Iterations: 2, Parallelism: 1}

func TestAWeakHashIsRenewedAfterItsNextUse(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *verify.Config) { c.Slots = verify.NewSlots(strong, 1<<20) })
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
		f.clock.advance(verify.MaxTrust)
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
		f := newFixture(t, func(c *verify.Config) { c.Slots = verify.NewSlots(strong, 1<<20) })
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
	f := newFixture(t, func(c *verify.Config) { c.Slots = verify.NewSlots(strong, 1<<20) })
	id, key := f.mint(t, "weak")
	mustVerify(t, f, key)
	f.store.remove(id)
	f.verifier.Close()
	if f.store.row(id).ID == id {
		t.Error("a renewal brought a revoked key back")
	}
}
