package verify_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestIdentityIsThatOfTheRow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	expires := time.Now().Add(time.Hour).UTC()
	id, key := f.mintHashed(t, cheap, store.Key{
		Label: "Twitch Bot", Permissions: []string{"b:write", "a:read"}, IsSystem: true, ExpiresAt: expires,
	})
	for range 2 { // from the store, then from memory
		got, err := f.verifier.Verify(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != id || got.Label != "Twitch Bot" || !got.IsSystem || !got.ExpiresAt.Equal(expires) {
			t.Errorf("identity is %+v", got)
		}
		if diff := cmp.Diff([]string{"a:read", "b:write"}, got.Permissions); diff != "" {
			t.Error(diff)
		}
		if !got.Has("a:read") || got.Has("a:write") || got.Has("system-keys:read") {
			t.Error("a key holds its own permissions and no others, system admin or not")
		}
	}
	if n := f.store.count(); n != 1 {
		t.Errorf("the row was read %d times, not once", n)
	}
}

func TestUnmintedStringsCostNoQueryAndNoArgon2id(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, key := f.mint(t, "one")
	for i := range 10_000 {
		body := []byte(strings.Repeat("0", 76))
		for j := range 8 {
			body[75-j] = '0' + byte(i>>(3*j)&7)
		}
		for _, s := range []string{"lm_sys_" + string(body), key[:len(key)-1] + "-", key + "0", ""} {
			if _, err := f.verifier.Verify(t.Context(), s); !errors.Is(err, verify.ReasonUnminted) {
				t.Fatalf("%q: %v", s, err)
			}
		}
	}
	stats := f.verifier.Stats()
	if stats.RowReads != 0 || stats.Argon2Runs != 0 || f.store.count() != 0 {
		t.Errorf("strings that nobody minted cost %+v", stats)
	}
}

func TestOneArgon2idForManyClientsThatStartCold(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, key := f.mint(t, "one")
	start := make(chan struct{})
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			<-start
			if _, err := f.verifier.Verify(t.Context(), key); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	if stats := f.verifier.Stats(); stats.Argon2Runs != 1 {
		t.Errorf("%d Argon2id computations, not 1", stats.Argon2Runs)
	}
}

func TestWhatIsTrustedAndForHowLong(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.clock.freeze()
	id, key := f.mint(t, "one")
	mustVerify(t, f, key)

	f.store.remove(id) // by hand, and nobody says so
	f.clock.advance(verify.DefaultMaxAge*9/10 - time.Millisecond)
	mustVerify(t, f, key)

	f.clock.advance(maxAge)
	mustRefuse(t, f, key, verify.ReasonRevoked)
}

func TestAnEntryThatRanOutCostsARowAndNoArgon2id(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.clock.freeze()
	_, key := f.mint(t, "one")
	for range 5 {
		mustVerify(t, f, key)
		f.clock.advance(maxAge)
	}
	if stats := f.verifier.Stats(); stats.Argon2Runs != 1 || stats.RowReads != 5 {
		t.Errorf("got %+v, want 1 computation and 5 reads", stats)
	}
}

func TestForgottenKeysAreLookedUpAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id, key := f.mint(t, "one")
	mustVerify(t, f, key)
	f.store.remove(id)
	f.verifier.Forget(id)
	mustRefuse(t, f, key, verify.ReasonRevoked)
}

// TestAFillThatARevocationOvertakesIsNotKept is race F1: the row is read, the key
// is revoked and forgotten, and only then would the entry be stored.
func TestAFillThatARevocationOvertakesIsNotKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id, key := f.mint(t, "one")
	var once sync.Once
	f.store.setAfter(func(store.ID) {
		once.Do(func() {
			f.store.remove(id)
			f.verifier.Forget(id)
		})
	})
	mustRefuse(t, f, key, verify.ReasonRevoked)
	mustRefuse(t, f, key, verify.ReasonRevoked)
}

// TestALookupIsNotSharedAcrossARevocation is race F3: a request that arrives
// after a revocation joins the lookup of one that arrived before it.
func TestALookupIsNotSharedAcrossARevocation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id, key := f.mint(t, "one")
	read, release := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	f.store.setAfter(func(store.ID) {
		if first.CompareAndSwap(false, true) {
			close(read)
			<-release
		}
	})
	results := make(chan error, 2)
	ask := func() {
		_, err := f.verifier.Verify(t.Context(), key)
		results <- err
	}
	go ask()
	<-read
	f.store.remove(id)
	f.verifier.Forget(id)
	go ask()
	close(release)
	for range 2 {
		if err := <-results; !errors.Is(err, verify.ReasonRevoked) {
			t.Errorf("a request that the revocation overtook got %v", err)
		}
	}
}

func TestAStoreThatDoesNotAnswerIsNoRefusal(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.clock.freeze()
	_, key := f.mint(t, "one")
	down := errors.New("connection refused")
	f.store.setFail(down)
	_, err := f.verifier.Verify(t.Context(), key)
	unavailable, ok := errors.AsType[*verify.UnavailableError](err)
	if !ok || !errors.Is(err, down) || errors.Is(err, verify.ErrInvalidToken) {
		t.Fatalf("got %v", err)
	}
	if unavailable.RetryAfter <= 0 || unavailable.Reason != verify.ReasonStore {
		t.Errorf("%+v does not say when to come back, or why", unavailable)
	}
	f.store.setFail(nil)
	mustVerify(t, f, key)
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.clock.freeze()
	expires := f.clock.now().Add(300 * time.Millisecond)
	_, key := f.mintHashed(t, cheap, store.Key{Label: "short", ExpiresAt: expires})
	mustVerify(t, f, key)
	f.clock.advance(300*time.Millisecond - time.Microsecond)
	mustVerify(t, f, key)
	f.clock.advance(time.Microsecond)
	mustRefuse(t, f, key, verify.ReasonExpired) // from memory
	f.clock.advance(maxAge)
	mustRefuse(t, f, key, verify.ReasonExpired) // from the store
	reads := f.store.count()
	mustRefuse(t, f, key, verify.ReasonExpired)
	if f.store.count() != reads {
		t.Error("a client that keeps sending an expired key keeps asking the store")
	}
}

func TestARevokedKeyThatIsStillSentDoesNotKeepAskingTheStore(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.clock.freeze()
	id, key := f.mint(t, "one")
	f.store.remove(id)
	for range 1000 {
		mustRefuse(t, f, key, verify.ReasonRevoked)
	}
	if n := f.store.count(); n != 1 {
		t.Errorf("the store was asked %d times, not once", n)
	}
	if stats := f.verifier.Stats(); stats.Argon2Runs != 0 {
		t.Errorf("%d Argon2id computations for a key that has no row", stats.Argon2Runs)
	}
}

// TestTheWrongSecretForAKnownKey needs the mint key to be made, so it stands for
// somebody who has read the database.
func TestTheWrongSecretForAKnownKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id, key := f.mint(t, "one")
	mustVerify(t, f, key)
	for i := range 20 {
		wrong := f.minter.Mint(id, [32]byte{byte(i)})
		mustRefuse(t, f, wrong, verify.ReasonMismatch)
	}
	mustVerify(t, f, key)
	if stats := f.verifier.Stats(); stats.Argon2Runs != 1 {
		t.Errorf("%d Argon2id computations, not 1: only one digest fits a known hash", stats.Argon2Runs)
	}
}

func TestAClosedVerifierIsUnavailable(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, key := f.mint(t, "one")
	f.verifier.Close()
	mustBeUnavailable(t, f, key, verify.ReasonNotReady)
}

func TestTheWarmCheckDoesNotAllocate(t *testing.T) {
	f := newFixture(t)
	_, key := f.mint(t, "one", "bots:read")
	f.clock.freeze()
	mustVerify(t, f, key)
	if n := testing.AllocsPerRun(1000, func() { mustVerify(t, f, key) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	ctx, request := t.Context(), new(coherence.Request) // a part of the request
	n := testing.AllocsPerRun(1000, func() {
		*request = coherence.Request{}
		if _, _, err := f.verifier.Admit(ctx, key, "", request); err != nil {
			t.Error(err)
		}
		request.Leave()
	})
	if n != 0 {
		t.Errorf("%v allocations with the registration", n)
	}
}

// TestADigestBelongsToItsHash has a key that is known by its hash when the row is
// given the hash of another.
func TestADigestBelongsToItsHash(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.clock.freeze()
	id, key := f.mint(t, "one")
	other, _ := f.mint(t, "other")
	mustVerify(t, f, key)
	row := f.store.row(id)
	row.Hash = f.store.row(other).Hash
	f.store.put(row)
	f.clock.advance(maxAge)
	mustRefuse(t, f, key, verify.ReasonMismatch)
}

func TestAnExpiredKeyCostsNoArgon2id(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, key := f.mintHashed(t, cheap, store.Key{Label: "over", ExpiresAt: time.Now().Add(-time.Hour)})
	mustRefuse(t, f, key, verify.ReasonExpired)
	if stats := f.verifier.Stats(); stats.Argon2Runs != 0 {
		t.Errorf("%d Argon2id computations", stats.Argon2Runs)
	}
}

func mustVerify(tb testing.TB, f *fixture, key string) {
	tb.Helper()
	if err := f.settled(tb, key); err != nil {
		tb.Fatal(err)
	}
}

func mustRefuse(tb testing.TB, f *fixture, key string, want verify.Reason) {
	tb.Helper()
	if err := f.settled(tb, key); !errors.Is(err, want) {
		tb.Fatalf("got %v, want %v", err, want)
	}
}

// settled verifies a key. On a busy machine the search for another service's key outlasts a
// request, and the key is verified again.
func (f *fixture) settled(tb testing.TB, key string) (err error) {
	tb.Helper()
	for began := time.Now(); time.Since(began) < time.Minute; {
		if _, err = f.verifier.Verify(tb.Context(), key); err == nil || !strings.Contains(err.Error(), "it is searched for") {
			return err
		}
	}
	return err
}

// TestAKeyThatGoesOnAfterItsHashWasReplaced costs one computation, not one a
// request.
func TestAKeyThatGoesOnAfterItsHashWasReplaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id, key := f.mint(t, "one")
	other, _ := f.mint(t, "other")
	row := f.store.row(id)
	row.Hash = f.store.row(other).Hash
	f.store.put(row)
	for range 50 {
		mustRefuse(t, f, key, verify.ReasonMismatch)
	}
	if stats := f.verifier.Stats(); stats.Argon2Runs != 1 {
		t.Errorf("%d Argon2id computations, not 1", stats.Argon2Runs)
	}
}

// TestAStringWithTheIDOfAKeyDoesNotKeepItInMemory sends strings with a remembered key's id
// and another secret. The id is public, so they must not choose what is evicted.
func TestAStringWithTheIDOfAKeyDoesNotKeepItInMemory(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *verify.Config) { c.MaxEntries = 4 })
	use := func(key string) {
		t.Helper()
		if _, err := f.verifier.Verify(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	others := func(n int, then func()) {
		t.Helper()
		for range n {
			_, key := f.mint(t, "other")
			use(key)
			then()
		}
	}
	others(5, func() {}) // fills the memory once
	_, remembered := f.mint(t, "remembered")
	use(remembered)
	last := "0"
	if strings.HasSuffix(remembered, last) {
		last = "1"
	}
	others(4, func() {
		if _, err := f.verifier.Verify(t.Context(), remembered[:len(remembered)-1]+last); !errors.Is(err, verify.ReasonUnminted) {
			t.Fatal(err)
		}
	})
	before := f.verifier.Stats().RowReads
	use(remembered)
	if f.verifier.Stats().RowReads == before {
		t.Error("the key was kept in memory by strings that are not it")
	}
}
