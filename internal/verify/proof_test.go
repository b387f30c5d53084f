package verify_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// second is another instance on the same store and the same cache.
func (f *fixture) second(tb testing.TB, secrets ...string) *fixture {
	tb.Helper()
	g := newFixture(tb, f.withProofs, func(c *verify.Config) {
		c.Store = f.store
		c.Minter = f.minter
		c.Now = f.clock.now
		c.Secrets = nil
		for _, s := range secrets {
			c.Secrets = append(c.Secrets, []byte(s))
		}
	})
	g.store, g.minter, g.proofs, g.clock = f.store, f.minter, f.proofs, f.clock
	return g
}

const firstSecret = "first secret of the test"

func withFixtureProofs(tb testing.TB) *fixture {
	tb.Helper()
	f := newFixture(tb)
	g := f.second(tb, firstSecret)
	return g
}

func TestAProofSavesTheNextInstanceTheWork(t *testing.T) {
	t.Parallel()
	a := withFixtureProofs(t)
	_, key := a.mint(t, "one")
	mustVerify(t, a, key)
	b := a.second(t, firstSecret)
	mustVerify(t, b, key)
	if stats := b.verifier.Stats(); stats.Argon2Runs != 0 || stats.RowReads != 1 {
		t.Errorf("the second instance did %+v", stats)
	}
}

func TestAProofDoesNotMakeARevokedKeyGood(t *testing.T) {
	t.Parallel()
	a := withFixtureProofs(t)
	id, key := a.mint(t, "one")
	mustVerify(t, a, key)
	a.store.remove(id)
	mustRefuse(t, a.second(t, firstSecret), key, verify.ReasonRevoked)
}

func TestAProofForAnotherSecretRefusesWithoutWork(t *testing.T) {
	t.Parallel()
	a := withFixtureProofs(t)
	id, key := a.mint(t, "one")
	mustVerify(t, a, key)
	b := a.second(t, firstSecret)
	mustRefuse(t, b, a.minter.Mint(id, [32]byte{1}), verify.ReasonMismatch)
	if stats := b.verifier.Stats(); stats.Argon2Runs != 0 {
		t.Errorf("the second instance did %+v", stats)
	}
}

// TestForgedProofsChangeNoVerdict writes to the cache whatever an attacker could.
func TestForgedProofsChangeNoVerdict(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		forge func(value []byte) []byte
	}{
		{name: "an empty value", forge: func([]byte) []byte { return []byte{} }},
		{name: "a truncated value", forge: func(v []byte) []byte { return v[:len(v)-1] }},
		{name: "a longer value", forge: func(v []byte) []byte { return append(v, 0) }},
		{name: "another version", forge: func(v []byte) []byte { v[0]++; return v }},
		{name: "another blind", forge: func(v []byte) []byte { v[1] ^= 1; return v }},
		{name: "another MAC", forge: func(v []byte) []byte { v[len(v)-1] ^= 1; return v }},
		{name: "nothing but zeros", forge: func(v []byte) []byte { return make([]byte, len(v)) }},
		{name: "a megabyte", forge: func([]byte) []byte { return make([]byte, 1<<20) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := withFixtureProofs(t)
			id, key := a.mint(t, "one")
			mustVerify(t, a, key)
			a.proofs.each(func(_ string, value []byte) []byte { return test.forge(slices.Clone(value)) })
			b := a.second(t, firstSecret)
			mustRefuse(t, b, a.minter.Mint(id, [32]byte{1}), verify.ReasonMismatch)
			mustVerify(t, b, key)
		})
	}
}

// TestAProofCannotBeMoved copies the proof of one key to the address of another,
// and keeps one across a change of the hash.
func TestAProofCannotBeMoved(t *testing.T) {
	t.Parallel()
	a := withFixtureProofs(t)
	first, firstKey := a.mint(t, "first")
	second, secondKey := a.mint(t, "second")
	mustVerify(t, a, firstKey)
	mustVerify(t, a, secondKey)
	addresses := make([]string, 0, 2)
	values := make([][]byte, 0, 2)
	a.proofs.each(func(address string, value []byte) []byte {
		addresses, values = append(addresses, address), append(values, value)
		return value
	})
	a.proofs.each(func(address string, _ []byte) []byte {
		return values[1-slices.Index(addresses, address)]
	})
	b := a.second(t, firstSecret)
	mustVerify(t, b, firstKey)
	mustVerify(t, b, secondKey)
	if stats := b.verifier.Stats(); stats.Argon2Runs != 2 {
		t.Errorf("swapped proofs were believed: %+v", stats)
	}

	// The row of the first key now holds the hash of the second: a proof of
	// before must not vouch for the key of before.
	row := a.store.row(first)
	row.Hash = a.store.row(second).Hash
	a.store.put(row)
	mustRefuse(t, a.second(t, firstSecret), firstKey, verify.ReasonMismatch)
}

func TestSecretsAreRotated(t *testing.T) {
	t.Parallel()
	a := withFixtureProofs(t)
	_, key := a.mint(t, "one")
	mustVerify(t, a, key)

	both := a.second(t, "second secret of the test", firstSecret)
	mustVerify(t, both, key)
	if stats := both.verifier.Stats(); stats.Argon2Runs != 0 {
		t.Error("a proof under the older secret was not accepted")
	}
	stranger := a.second(t, "a secret of somebody else")
	mustVerify(t, stranger, key)
	if stats := stranger.verifier.Stats(); stats.Argon2Runs != 1 {
		t.Error("a proof under another installation's secret was accepted")
	}
}

func TestACacheThatFailsFailsNoRequest(t *testing.T) {
	t.Parallel()
	a := withFixtureProofs(t)
	a.proofs.fail = errors.New("connection refused")
	_, key := a.mint(t, "one")
	mustVerify(t, a, key)
	mustVerify(t, a.second(t, firstSecret), key)
}

func TestWithoutASecretTheCacheIsNotUsed(t *testing.T) {
	t.Parallel()
	a := withFixtureProofs(t)
	b := a.second(t)
	_, key := a.mint(t, "one")
	mustVerify(t, b, key)
	if a.proofs.gets != 0 || len(a.proofs.values) != 0 {
		t.Error("the cache was used")
	}
}

// TestWhatIsKeptInTheCacheGivesNothingAway looks for everything that goes into a
// proof.
func TestWhatIsKeptInTheCacheGivesNothingAway(t *testing.T) {
	t.Parallel()
	a := withFixtureProofs(t)
	id, key := a.mint(t, "a label", "bots:read")
	mustVerify(t, a, key)
	hash := string(a.store.row(id).Hash)
	keySum, hashSum := sha256.Sum256([]byte(key)), sha256.Sum256([]byte(hash))
	a.proofs.each(func(address string, value []byte) []byte {
		for _, part := range [][]byte{
			[]byte(key), []byte(key[7:29]), []byte(id.String()), id[:], []byte("a label"), []byte("bots"),
			[]byte(hash), []byte(firstSecret), keySum[:], hashSum[:],
		} {
			if bytes.Contains(value, part) || bytes.Contains([]byte(address), part) {
				t.Errorf("the cache holds %q", part)
			}
		}
		return value
	})
	if a.proofs.ttl < 20*time.Hour || a.proofs.ttl > 28*time.Hour {
		t.Errorf("a proof is kept for %s", a.proofs.ttl)
	}
}

// TestAClientThatGoesAwayDoesNotFailTheOthers cancels the request that started a
// lookup which another one waits for.
func TestAClientThatGoesAwayDoesNotFailTheOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, key := f.mint(t, "one")
	ctx, cancel := context.WithCancel(t.Context())
	f.store.setAfter(func(store.ID) { cancel() })
	if _, err := f.verifier.Verify(ctx, key); !errors.Is(err, context.Canceled) && err != nil {
		t.Fatalf("got %v", err)
	}
	mustVerify(t, f, key)
	if stats := f.verifier.Stats(); stats.Argon2Runs != 1 || stats.RowReads != 1 {
		t.Errorf("got %+v: what the first client began was not carried through", stats)
	}
}
