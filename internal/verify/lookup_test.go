package verify_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func mustBeUnavailable(tb testing.TB, f *fixture, key string, why verify.Reason) {
	tb.Helper()
	_, err := f.verifier.Verify(tb.Context(), key)
	unavailable, ok := errors.AsType[*verify.UnavailableError](err)
	if !ok || errors.Is(err, verify.ErrInvalidToken) || unavailable.RetryAfter <= 0 || unavailable.Reason != why {
		tb.Fatalf("got %v, want %s, which is no word on the key", err, why)
	}
}

func TestWithoutALeaseNothingIsAccepted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, warm := f.mint(t, "warm")
	_, cold := f.mint(t, "cold")
	mustVerify(t, f, warm)
	reads := f.store.count()
	f.lease.set(coherence.LeaseNone)
	for _, key := range []string{warm, cold} {
		mustBeUnavailable(t, f, key, verify.ReasonNoLease)
	}
	if f.store.count() != reads {
		t.Error("the store was asked")
	}
	if f.lease.wants.Load() != 2 {
		t.Errorf("a lease was asked for %d times", f.lease.wants.Load())
	}
	f.lease.set(coherence.LeaseCached)
	mustVerify(t, f, warm)
	if f.store.count() != reads {
		t.Error("what was remembered did not outlive the gap, in which nothing was forgotten")
	}
}

// TestALeaseThatRunsOutDuringALookup has a computation wait for so long that the
// key may be revoked elsewhere meanwhile.
func TestALeaseThatRunsOutDuringALookup(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, key := f.mint(t, "one")
	f.store.setAfter(func(store.ID) { f.lease.set(coherence.LeaseNone) })
	mustBeUnavailable(t, f, key, verify.ReasonNoLease)
}

// TestARevocationBetweenTheLookAndTheCheck has a revocation drop the entry after
// the request got hold of it. The request is in flight by then, for the
// revocation to cut.
func TestARevocationBetweenTheLookAndTheCheck(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id, key := f.mint(t, "one")
	mustVerify(t, f, key)
	var request coherence.Request
	entered := false
	f.clock.onNext(func() {
		entered = f.inFlight.Has(id)
		f.store.remove(id)
		f.verifier.Forget(id)
	})
	if _, _, err := f.verifier.Admit(t.Context(), key, "", &request); !errors.Is(err, verify.ReasonRevoked) {
		t.Errorf("got %v", err)
	}
	if !entered {
		t.Error("the key was checked before the request could be cut")
	}
	if f.inFlight.Len() != 0 {
		t.Error("a refused request is in flight")
	}
}

func TestARequestThatIsLetThroughIsInFlight(t *testing.T) {
	t.Parallel()
	for _, state := range []coherence.LeaseState{coherence.LeaseCached, coherence.LeaseDirect} {
		f := newFixture(t)
		f.lease.set(state)
		id, key := f.mint(t, "one")
		for range 2 { // cold, and warm
			var request coherence.Request
			if _, _, err := f.verifier.Admit(t.Context(), key, "", &request); err != nil {
				t.Fatal(err)
			}
			if f.inFlight.Len() != 1 || !f.inFlight.Has(id) {
				t.Error("the request cannot be cut")
			}
			request.Leave()
			if f.inFlight.Len() != 0 {
				t.Error("the request has not left")
			}
		}
		wrong := f.minter.Mint(id, [32]byte{1})
		var request coherence.Request
		if _, _, err := f.verifier.Admit(t.Context(), wrong, "", &request); err == nil || f.inFlight.Len() != 0 {
			t.Errorf("the wrong secret got %v, and %d are in flight", err, f.inFlight.Len())
		}
	}
}

// TestWithoutTriggersEachRequestReadsItsRow has a database that does not say
// which keys were changed.
func TestWithoutTriggersEachRequestReadsItsRow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id, key := f.mint(t, "one")
	mustVerify(t, f, key) // is remembered, which must not count
	f.lease.set(coherence.LeaseDirect)
	before := f.store.count()
	for range 3 {
		mustVerify(t, f, key)
	}
	if n := f.store.count() - before; n != 6 {
		t.Errorf("%d reads for three requests, want two each: before it is in flight, and after", n)
	}
	f.store.remove(id)
	mustRefuse(t, f, key, verify.ReasonRevoked)
	if stats := f.verifier.Stats(); stats.Argon2Runs != 1 {
		t.Errorf("%d Argon2id computations, not 1", stats.Argon2Runs)
	}
}

// TestWithoutTriggersARequestIsInFlightBeforeItsLastRead has the key revoked
// between the two reads.
func TestWithoutTriggersARequestIsInFlightBeforeItsLastRead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(f *fixture, id store.ID)
		want   error
	}{
		"deleted": {func(f *fixture, id store.ID) { f.store.remove(id) }, verify.ReasonRevoked},
		"a permission is gone": {func(f *fixture, id store.ID) {
			row := f.store.row(id)
			row.Permissions = nil
			f.store.put(row)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.lease.set(coherence.LeaseDirect)
			id, key := f.mint(t, "one", "bots:read")
			var once sync.Once
			f.store.setAfter(func(store.ID) { once.Do(func() { test.change(f, id) }) })
			var request coherence.Request
			_, _, err := f.verifier.Admit(t.Context(), key, "", &request)
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("got %v", err)
			}
			if f.inFlight.Len() != 0 {
				t.Error("a refused request is in flight")
			}
		})
	}
}

func TestEverythingForgottenIsLookedUpAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	kept, keptKey := f.mint(t, "kept")
	gone, goneKey := f.mint(t, "gone")
	mustVerify(t, f, keptKey)
	mustVerify(t, f, goneKey)
	f.store.remove(gone)
	f.verifier.ForgetAll()
	reads := f.store.count()
	mustVerify(t, f, keptKey)
	mustRefuse(t, f, goneKey, verify.ReasonRevoked)
	if f.store.count() != reads+2 || f.store.row(kept).ID != kept {
		t.Errorf("%d reads", f.store.count()-reads)
	}
	// A refusal that is remembered is forgotten as well: the row is back.
	row := f.store.row(kept)
	f.store.remove(kept)
	f.verifier.ForgetAll()
	mustRefuse(t, f, keptKey, verify.ReasonRevoked)
	f.store.put(row)
	f.verifier.ForgetAll()
	mustVerify(t, f, keptKey)
}

// TestRequestsOutliveTheirKeysEntry has a memory that is far too small for the keys
// in use: a key that is not remembered any more has its requests cut all the same.
func TestRequestsOutliveTheirKeysEntry(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *verify.Config) { c.MaxEntries = 1 })
	type sent struct {
		id      store.ID
		request coherence.Request
	}
	all := make([]sent, 300)
	for i := range all {
		var key string
		all[i].id, key = f.mint(t, fmt.Sprint(i))
		all[i].request.Exchange = cut.New(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
		if _, _, err := f.verifier.Admit(t.Context(), key, "", &all[i].request); err != nil {
			t.Fatal(err)
		}
	}
	for i := range all {
		f.verifier.Forget(all[i].id)
		if n := f.inFlight.Cut(all[i].id, cut.ErrRevoked); n != 1 || all[i].request.Exchange.Finish().Cause == nil {
			t.Fatalf("request %d: %d were cut", i, n)
		}
		all[i].request.Leave()
	}
}

// TestAnImportedKeyIsNotAcceptedWhileItsTableIsNotFollowed, as a stranger or from memory. The
// memory is forgotten when that is noticed.
func TestAnImportedKeyIsNotAcceptedWhileItsTableIsNotFollowed(t *testing.T) {
	t.Parallel()
	for _, state := range []coherence.LeaseState{coherence.LeaseCached, coherence.LeaseDirect} {
		f := newFixture(t)
		f.lease.set(state)
		_, imported := f.mintHashed(t, cheap, store.Key{Foreign: true, CreatedBy: store.Imported})
		_, inserted := f.mintHashed(t, cheap, store.Key{Foreign: true, CreatedBy: "sql"})
		_, minted := f.mintHashed(t, cheap, store.Key{CreatedBy: store.Imported})
		mustVerify(t, f, imported)
		f.lease.unfollowed.Store(true)
		f.verifier.ForgetAll()
		for range 2 {
			_, err := f.verifier.Verify(t.Context(), imported)
			unavailable, ok := errors.AsType[*verify.UnavailableError](err)
			if !ok || unavailable.Reason != verify.ReasonUnfollowed || unavailable.RetryAfter <= 0 {
				t.Errorf("an imported key got %v", err)
			}
		}
		mustVerify(t, f, inserted)
		mustVerify(t, f, minted)
		f.lease.unfollowed.Store(false)
		mustVerify(t, f, imported)
	}
}
