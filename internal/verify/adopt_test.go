package verify_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/internal/adopt"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestKeysOfAnotherServiceAreSearchedForOnce(t *testing.T) {
	t.Parallel()
	m := new(meter)
	f, x := adopting(t, func(c *verify.Config) { c.Meter = m })
	ids := make(map[string]store.ID)
	for _, key := range shapes {
		ids[key] = f.foreign(t, key)
	}
	verifyAll := func(f *fixture) {
		t.Helper()
		for _, key := range shapes {
			got, err := f.verifier.Verify(t.Context(), key)
			if err != nil || got.ID != ids[key] {
				t.Errorf("%.20s: %v, %v", key, got, err)
			}
		}
	}
	verifyAll(f)
	// Each is tried against those that were not found yet, the oldest of which it is, and
	// is then verified as every key is.
	if stats := f.verifier.Stats(); stats.SearchRuns != 4 || stats.Argon2Runs != 8 {
		t.Errorf("the search made %d of %d computations, want 4 of 8", stats.SearchRuns, stats.Argon2Runs)
	}
	verifyAll(f)
	f.verifier.ForgetAll()
	verifyAll(f)
	if stats := f.verifier.Stats(); stats.Argon2Runs != 8 || x.reads != 4 {
		t.Errorf("%d computations and %d reads of the index, want 8 and 4", stats.Argon2Runs, x.reads)
	}
	want := map[observe.Outcome]int{observe.OutcomeSearch: 4, observe.OutcomeMemory: 8}
	if diff := cmp.Diff(want, m.outcomes()); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}

	restarted := f.again(t, x)
	verifyAll(restarted)
	if stats := restarted.verifier.Stats(); stats.SearchRuns != 0 || stats.Argon2Runs != 4 {
		t.Errorf("after a restart the search made %d of %d computations, want 0 of 4", stats.SearchRuns, stats.Argon2Runs)
	}
}

// TestInstancesThatSearchAtTheSameTimeBothFind has another one find the key after
// this one has looked at the index, and before it lists the candidates.
func TestInstancesThatSearchAtTheSameTimeBothFind(t *testing.T) {
	t.Parallel()
	f, x := adopting(t)
	other := f.again(t, x)
	f.foreign(t, shapes[0])
	var found atomic.Bool
	x.before = func() {
		if found.CompareAndSwap(false, true) {
			mustVerify(t, other, shapes[0])
		}
	}
	mustVerify(t, f, shapes[0])
	if !found.Load() {
		t.Error("the other was not asked")
	}
}

func TestWithoutAdoptionNothingOfItHappens(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]*fixture{
		"off":            newFixture(t),
		"with no secret": first(adopting(t, func(c *verify.Config) { c.Secrets = nil })),
	} {
		for _, key := range shapes {
			f.foreign(t, key)
			mustRefuse(t, f, key, verify.ReasonUnminted)
		}
		if f.finder != nil || f.store.count() != 0 || f.verifier.Stats().Argon2Runs != 0 {
			t.Errorf("%s: %d reads, %+v", name, f.store.count(), f.verifier.Stats())
		}
	}
}

func first[A, B any](a A, _ B) A { return a }

func TestStringsOfNoFormAreNotLookedFor(t *testing.T) {
	t.Parallel()
	f, x := adopting(t)
	f.foreign(t, shapes[0])
	_, minted := f.mint(t, "ours")
	for _, s := range []string{"", "lm_sys_", "lm_sys_a b", "lm_sys_=", "lm_sys_a\x00", "LM_SYS_s", minted + ",", "lm_sys_" + string(make([]byte, 300))} {
		mustRefuse(t, f, s, verify.ReasonUnminted)
	}
	if reads, lists := x.counts(); reads != 0 || lists != 0 {
		t.Errorf("%d reads of the index, %d searches", reads, lists)
	}
}

func TestMintedKeysNeverTakeTheRoadOfOthers(t *testing.T) {
	t.Parallel()
	f, x := adopting(t)
	f.foreign(t, shapes[0])
	id, key := f.mint(t, "ours")
	mustVerify(t, f, key)
	f.store.remove(id)
	f.verifier.Forget(id)
	mustRefuse(t, f, key, verify.ReasonRevoked)
	if reads, lists := x.counts(); reads != 0 || lists != 0 {
		t.Errorf("%d reads of the index, %d searches", reads, lists)
	}
}

func TestAStringThatIsNobodysIsRememberedForAMinute(t *testing.T) {
	t.Parallel()
	f, x := adopting(t)
	f.clock.freeze()
	f.foreign(t, shapes[0])
	for range 5 {
		mustRefuse(t, f, "lm_sys_nobody", verify.ReasonUnminted)
	}
	if x.lists != 1 || f.verifier.Stats().SearchRuns != 1 {
		t.Errorf("%d searches of %d computations, want 1 of 1", x.lists, f.verifier.Stats().SearchRuns)
	}
	f.foreign(t, "lm_sys_nobody")
	f.clock.advance(nobodyTTL)
	mustVerify(t, f, "lm_sys_nobody")
}

// TestAForgedEntryLetsNobodyIn has entries that lead elsewhere: to the row of another
// key, to none, and to one of ours that has the hash of the string all the same.
func TestAForgedEntryLetsNobodyIn(t *testing.T) {
	t.Parallel()
	f, x := adopting(t)
	x.credulous = true
	key, other := shapes[0], shapes[1]
	f.foreign(t, key)
	mustVerify(t, f, key)
	otherID := f.foreign(t, other)
	ours, _ := f.mint(t, "ours")
	row := f.store.row(ours)
	hash, err := phc.Hash(key, cheap)
	if err != nil {
		t.Fatal(err)
	}
	row.Hash = store.Hash(hash)
	f.store.put(row)
	for name, c := range map[string]struct {
		leads store.ID
		want  verify.Reason
	}{
		"another key":      {otherID, verify.ReasonMismatch},
		"no key":           {store.ID{1}, verify.ReasonRevoked},
		"one that is ours": {ours, verify.ReasonUnminted},
	} {
		x.forge(func(entries map[[32]byte]store.AdoptedKey) {
			for digest, e := range entries {
				e.Key = c.leads
				entries[digest] = e
			}
		})
		restarted := f.again(t, x)
		if _, err := restarted.verifier.Verify(t.Context(), key); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		restarted.verifier.Close()
	}
}

func TestAnAdoptedKeyThatIsRevokedIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	f, x := adopting(t)
	f.clock.freeze()
	key := shapes[1]
	id := f.foreign(t, key)
	request := new(coherence.Request)
	if _, _, err := f.verifier.Admit(t.Context(), key, "", request); err != nil {
		t.Fatal(err)
	}
	if !f.inFlight.Has(id) {
		t.Error("the request is not in flight under its key")
	}
	request.Leave()
	f.store.remove(id)
	x.forge(func(entries map[[32]byte]store.AdoptedKey) { clear(entries) })
	f.verifier.Forget(id)
	for range 50 {
		mustRefuse(t, f, key, verify.ReasonRevoked)
	}
	if got, _, err := f.verifier.Admit(t.Context(), key, "", nil); got != id {
		t.Errorf("the key was that of %v, %v", got, err)
	}
	eventually(t, func() bool { return f.finder.Stats().Waiting == 0 })
	if reads, lists := x.counts(); reads > 3 || lists > 2 || f.store.count() > 2 {
		t.Errorf("the index was read %d times, the row %d times, and there were %d searches", reads, f.store.count(), lists)
	}
	if got, _, err := f.verifier.Admit(t.Context(), "lm_sys_other", "", nil); got != (store.ID{}) {
		t.Errorf("a string that was never seen is that of %v, %v", got, err)
	}
}

// TestAKeyThatMovedToAnotherRowIsFoundThere has another service write its rows anew.
func TestAKeyThatMovedToAnotherRowIsFoundThere(t *testing.T) {
	t.Parallel()
	f, x := adopting(t)
	key := shapes[1]
	before := f.foreign(t, key)
	mustVerify(t, f, key)
	f.store.remove(before)
	x.forge(func(entries map[[32]byte]store.AdoptedKey) { clear(entries) })
	f.verifier.Forget(before)
	after := f.foreign(t, key)
	eventually(t, func() bool {
		got, err := f.verifier.Verify(t.Context(), key)
		return err == nil && got.ID == after
	})
}

func TestWhereThereAreTooManyCandidatesNoneIsRefusedAsUnknown(t *testing.T) {
	t.Parallel()
	f, _ := adopting(t)
	f.clock.freeze()
	hash, err := phc.Hash("lm_sys_other", phc.Params{Memory: 8, Iterations: 1, Parallelism: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range adopt.MaxCandidates {
		f.store.put(store.Key{ID: store.ID{0, byte(i >> 8), byte(i)}, Hash: store.Hash(hash), Foreign: true})
	}
	mustRefuse(t, f, "lm_sys_nobody", verify.ReasonUnminted)
	f.foreign(t, shapes[0]) // the newest
	f.clock.advance(nobodyTTL)
	for range 2 {
		err := f.settled(t, shapes[0])
		unavailable, ok := errors.AsType[*verify.UnavailableError](err)
		if !ok || !later(err) || unavailable.RetryAfter != nobodyTTL {
			t.Errorf("got %v", err)
		}
	}
	if stats := f.finder.Stats(); stats.Candidates != adopt.MaxCandidates+1 || stats.Argon2Runs != 2*adopt.MaxCandidates {
		t.Errorf("%+v", stats)
	}
	f.store.remove(store.ID{0, 0, 0})
	f.clock.advance(nobodyTTL)
	mustVerify(t, f, shapes[0])
}

func TestAFaultOrNoLeaseIsNoRefusalOfAnothersKey(t *testing.T) {
	t.Parallel()
	f, _ := adopting(t)
	f.foreign(t, shapes[0])
	f.lease.set(coherence.LeaseNone)
	if _, err := f.verifier.Verify(t.Context(), shapes[0]); !errors.Is(err, verify.ErrNoLease) || errors.Is(err, verify.ErrInvalidToken) {
		t.Errorf("without a lease: %v", err)
	}
	f.lease.set(coherence.LeaseCached)
	f.store.setFail(store.ErrStandby)
	if _, err := f.verifier.Verify(t.Context(), shapes[0]); !errors.Is(err, store.ErrStandby) || errors.Is(err, verify.ErrInvalidToken) {
		t.Errorf("on a standby: %v", err)
	}
	f.store.setFail(nil)
	f.lease.set(coherence.LeaseDirect)
	mustVerify(t, f, shapes[0])
	f.lease.set(coherence.LeaseNone)
	if _, err := f.verifier.Verify(t.Context(), shapes[0]); !errors.Is(err, verify.ErrNoLease) {
		t.Errorf("without a lease, when it is known: %v", err)
	}
}

func TestAReplacedSecretFindsWhatWasFoundBefore(t *testing.T) {
	t.Parallel()
	f, x := adopting(t)
	f.foreign(t, shapes[0])
	mustVerify(t, f, shapes[0])
	for _, secrets := range [][]string{
		{"second secret of the test", "first secret of the test"},
		{"second secret of the test"},
	} {
		next := f.again(t, x, secrets...)
		mustVerify(t, next, shapes[0])
		if n := next.verifier.Stats().SearchRuns; n != 0 {
			t.Errorf("with %d secrets the search made %d computations", len(secrets), n)
		}
	}
	other := f.again(t, x, "a secret that was never there")
	mustVerify(t, other, shapes[0])
	if n := other.verifier.Stats().SearchRuns; n != 1 {
		t.Errorf("under another secret the search made %d computations", n)
	}
}

// TestAnEntryUnderANewSecretIsForTheHashOfTheOld has the row change hands between
// what is read of the index and what is written to it.
func TestAnEntryUnderANewSecretIsForTheHashOfTheOld(t *testing.T) {
	t.Parallel()
	f, x := adopting(t)
	id := f.foreign(t, shapes[0])
	before := f.store.row(id)
	mustVerify(t, f, shapes[0])
	x.after = func() {
		f.store.put(store.Key{ID: id, Label: before.Label, Hash: "$argon2id$another", Foreign: true})
	}
	next := f.again(t, x, "second secret of the test", "first secret of the test")
	_, _ = next.verifier.Verify(t.Context(), shapes[0])
	x.forge(func(entries map[[32]byte]store.AdoptedKey) {
		if len(entries) != 1 {
			t.Errorf("%d entries, want that of the old secret alone", len(entries))
		}
		for _, e := range entries {
			if e.Hash != before.Hash {
				t.Error("an entry is for a hash that the string was never found with")
			}
		}
	})
}

func TestOneSearchForManyClients(t *testing.T) {
	t.Parallel()
	f, x := adopting(t)
	f.foreign(t, shapes[1])
	start := make(chan struct{})
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			<-start
			mustVerifyIn(t, f, shapes[1])
		})
	}
	close(start)
	wg.Wait()
	if stats := f.verifier.Stats(); stats.SearchRuns != 1 || stats.Argon2Runs != 2 || x.reads != 1 {
		t.Errorf("%+v, and %d reads of the index", stats, x.reads)
	}
}

func mustVerifyIn(t *testing.T, f *fixture, key string) {
	t.Helper()
	if _, err := f.verifier.Verify(t.Context(), key); err != nil {
		t.Error(err)
	}
}

func TestAWeakHashOfAnAdoptedKeyIsRenewed(t *testing.T) {
	t.Parallel()
	strong := phc.Params{Memory: 128, Iterations: 1, Parallelism: 1}
	f, x := adopting(t, func(c *verify.Config) { c.Slots = hashing.NewSlots(strong, 1<<20) })
	id := f.foreign(t, shapes[1])
	mustVerify(t, f, shapes[1])
	eventually(t, func() bool {
		hashed, err := phc.Parse(string(f.store.row(id).Hash))
		return err == nil && hashed.Params() == strong
	})
	restarted := f.again(t, x)
	mustVerify(t, restarted, shapes[1])
	if n := restarted.verifier.Stats().SearchRuns; n != 0 {
		t.Errorf("it was searched for again, in %d computations", n)
	}
}

func TestAHashOutOfBoundsIsNotComputed(t *testing.T) {
	t.Parallel()
	f, _ := adopting(t)
	f.store.put(store.Key{ID: store.ID{}, Foreign: true, Hash: "$argon2id$v=19$m=99999999,t=9,p=1$c2FsdHNhbHQ$c2VjcmV0c2VjcmV0c2VjcmV0"})
	f.foreign(t, shapes[0])
	mustVerify(t, f, shapes[0])
	if n := f.verifier.Stats().SearchRuns; n != 1 {
		t.Errorf("%d computations", n)
	}
}

func TestTheWarmCheckOfAnAdoptedKeyDoesNotAllocate(t *testing.T) {
	f, _ := adopting(t)
	for _, key := range shapes {
		f.foreign(t, key)
		mustVerify(t, f, key)
		if n := testing.AllocsPerRun(1000, func() { mustVerify(t, f, key) }); n != 0 {
			t.Errorf("%d characters: %v allocations", len(key), n)
		}
	}
}
