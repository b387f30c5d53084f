package verify_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestAFloodOfUnmintedKeysIsBounded has it cost no more than the bucket holds, and
// clients with good keys not a request.
func TestAFloodOfUnmintedKeysIsBounded(t *testing.T) {
	t.Parallel()
	m := new(meter)
	f, x := adopting(t, func(c *verify.Config) { c.Meter = m })
	f.clock.freeze() // so that no more comes into the buckets
	const candidates, strings, lookups = 5, 2000, 100
	f.foreign(t, shapes[0])
	mustVerify(t, f, shapes[0])
	for i := range candidates {
		f.foreign(t, fmt.Sprintf("lm_sys_unused-%d", i))
	}
	_, minted := f.mint(t, "ours")
	mustVerify(t, f, minted)
	before := f.verifier.Stats()
	for i := range strings {
		_, err := f.verifier.Verify(t.Context(), fmt.Sprintf("lm_sys_flood-%d", i))
		if !errors.Is(err, verify.ErrInvalidToken) && !later(err) {
			t.Fatalf("string %d: %v", i, err)
		}
		mustVerify(t, f, shapes[0])
		mustVerify(t, f, minted)
	}
	after := f.verifier.Stats()
	if n := after.Argon2Runs - before.Argon2Runs; n > lookups*candidates || n != after.SearchRuns-before.SearchRuns {
		t.Errorf("%d strings cost %d computations, want %d at most, all of them of searches", strings, n, lookups*candidates)
	}
	if x.reads > 2*lookups { // before and after a search
		t.Errorf("the index was read %d times", x.reads)
	}
	if n := m.outcomes()[observe.OutcomeBusy]; n < strings-lookups {
		t.Errorf("%d strings were refused by a bound", n)
	}
}

// TestASearchGoesOnWithoutItsRequest has candidates come late: the client is told to
// come back, joins the search when it does, and finds what was found.
func TestASearchGoesOnWithoutItsRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, x := adopting(t)
		release := make(chan struct{})
		x.before = func() { <-release }
		f.foreign(t, shapes[0])
		began := time.Now()
		for range 2 {
			_, err := f.verifier.Verify(t.Context(), shapes[0])
			unavailable, ok := errors.AsType[*verify.UnavailableError](err)
			if !ok || !later(err) || unavailable.Reason != verify.ReasonAdoption || unavailable.RetryAfter != 2*time.Second {
				t.Errorf("while it is searched for: %v", err)
			}
		}
		if took := time.Since(began); took != 4*time.Second {
			t.Errorf("two requests waited for %v", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() {
			_, err := f.verifier.Verify(ctx, shapes[0])
			gone <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("a client that went away: %v", err)
		}
		close(release)
		mustVerify(t, f, shapes[0])
		if n := f.verifier.Stats().SearchRuns; n != 1 {
			t.Errorf("%d computations", n)
		}
	})
}

// TestTheQueueOfSearchesIsBounded holds up the first of more than fit.
func TestTheQueueOfSearchesIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, x := adopting(t)
		release := make(chan struct{})
		x.before = func() { <-release }
		answers := make(chan error, 100)
		for i := range cap(answers) {
			go func() {
				_, err := f.verifier.Verify(t.Context(), fmt.Sprintf("lm_sys_%d", i))
				answers <- err
			}()
		}
		synctest.Wait()
		if busy := len(answers); busy != cap(answers)-17 { // one is searched for, and 16 wait
			t.Errorf("%d of %d were refused at once", busy, cap(answers))
		}
		for len(answers) > 0 {
			if err := <-answers; !later(err) {
				t.Error(err)
			}
		}
		close(release)
	})
}

// TestSearchesPauseWhenTheirTimeIsSpent has each list of candidates take nine seconds.
func TestSearchesPauseWhenTheirTimeIsSpent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, x := adopting(t)
		x.before = func() { time.Sleep(9 * time.Second) }
		const searches = 8
		began := time.Now()
		for i := range searches {
			for key := fmt.Sprintf("lm_sys_%d", i); ; {
				if _, err := f.verifier.Verify(t.Context(), key); errors.Is(err, verify.ErrInvalidToken) {
					break
				}
			}
		}
		// 63 seconds of work before the last begins, 30 of which may be spent at once, and
		// the others at a quarter; and the time of the first, when the bucket was full.
		if took := time.Since(began); took < 150*time.Second || took > 153*time.Second {
			t.Errorf("%d searches took %v", searches, took)
		}
	})
}

func TestTheEndDoesNotWaitForSearches(t *testing.T) {
	t.Parallel()
	f, x := adopting(t)
	searching := make(chan struct{})
	release := make(chan struct{})
	x.before = func() {
		close(searching)
		<-release
	}
	f.foreign(t, shapes[0])
	answer := make(chan error, 1)
	go func() {
		_, err := f.verifier.Verify(t.Context(), shapes[0])
		answer <- err
	}()
	<-searching
	closed := make(chan struct{})
	go func() {
		f.finder.Close()
		f.verifier.Close()
		close(closed)
	}()
	if err := <-answer; !errors.Is(err, store.ErrClosed) || errors.Is(err, verify.ErrInvalidToken) {
		t.Errorf("a request that waited got %v", err)
	}
	close(release)
	<-closed
	if _, err := f.verifier.Verify(t.Context(), "lm_sys_later"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("a request that came later got %v", err)
	}
}
