package verify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/adopt"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// searched waits until nothing is searched for.
func (f *fixture) searched(tb testing.TB) {
	tb.Helper()
	eventually(tb, func() bool { return f.finder.Stats().Waiting == 0 })
}

// TestARowThatComesBackIsGoodAgain has the row of an adopted key be away for long
// enough to be searched for in vain.
func TestARowThatComesBackIsGoodAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		away func(f *fixture, row store.Key)
		want verify.Reason
	}{
		"deleted": {func(f *fixture, row store.Key) { f.store.remove(row.ID) }, verify.ReasonRevoked},
		"with the hash of another": {func(f *fixture, row store.Key) {
			hash, _ := phc.Hash("lm_sys_wrong", cheap)
			row.Hash = store.Hash(hash)
			f.store.put(row)
		}, verify.ReasonMismatch},
		"marked as ours": {func(f *fixture, row store.Key) {
			row.Foreign = false
			f.store.put(row)
		}, verify.ReasonUnminted},
	} {
		for _, told := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, told: %t", name, told), func(t *testing.T) {
				t.Parallel()
				f, x := adopting(t)
				f.clock.freeze()
				key := shapes[1]
				id := f.foreign(t, key)
				mustVerify(t, f, key)
				row := f.store.row(id)
				c.away(f, row)
				f.verifier.Forget(id)
				mustRefuse(t, f, key, c.want)
				f.searched(t)
				mustRefuse(t, f, key, c.want)
				f.store.put(row)
				_, lists := x.counts()
				if told {
					f.verifier.Forget(id)
				} else { // a row that is inserted is in no log of changes
					f.clock.advance(negativesTTL)
				}
				mustVerify(t, f, key)
				f.verifier.Forget(id)
				mustVerify(t, f, key)
				if _, after := x.counts(); after != lists {
					t.Errorf("%d searches for it", after-lists)
				}

				f.store.remove(id)
				moved := f.foreign(t, key)
				f.verifier.Forget(id)
				if got, err := f.verifier.Verify(t.Context(), key); err != nil || got.ID != moved {
					t.Errorf("moved after that: %v, %v", got, err)
				}
			})
		}
	}
}

// TestAClientThatGoesOnWithARevokedKeyCostsNoSearch has the deletion be told again and
// again, and after it was seen.
func TestAClientThatGoesOnWithARevokedKeyCostsNoSearch(t *testing.T) {
	t.Parallel()
	f, x := adopting(t)
	f.clock.freeze()
	key := shapes[1]
	id := f.foreign(t, key)
	f.foreign(t, "lm_sys_unused")
	mustVerify(t, f, key)
	f.store.remove(id)
	f.verifier.Forget(id)
	mustRefuse(t, f, key, verify.ReasonRevoked)
	f.searched(t)
	reads, lists := x.counts()
	runs := f.verifier.Stats().Argon2Runs
	for range 200 {
		f.verifier.Forget(id)
		rows := f.store.count()
		for range 3 {
			mustRefuse(t, f, key, verify.ReasonRevoked)
		}
		if n := f.store.count() - rows; n > 1 {
			t.Fatalf("the row was read %d times", n)
		}
		f.clock.advance(negativesTTL)
	}
	if r, l := x.counts(); r > reads+10 || l > lists+10 || f.verifier.Stats().Argon2Runs != runs {
		t.Errorf("%d reads of the index, %d looks at the candidates, %d computations", r-reads, l-lists, f.verifier.Stats().Argon2Runs-runs)
	}
	if got, _, err := f.verifier.Admit(t.Context(), key, "", nil); got != id {
		t.Errorf("the key was that of %v, %v", got, err)
	}
}

// TestARowThatComesLaterUnderAnotherIDIsFound has the client come before it.
func TestARowThatComesLaterUnderAnotherIDIsFound(t *testing.T) {
	t.Parallel()
	for name, elsewhere := range map[string]bool{"by a search": false, "by another instance": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, x := adopting(t)
			f.clock.freeze()
			key := shapes[1]
			before := f.foreign(t, key)
			mustVerify(t, f, key)
			f.store.remove(before)
			f.verifier.Forget(before)
			mustRefuse(t, f, key, verify.ReasonRevoked)
			f.searched(t)
			after := f.foreign(t, key)
			if elsewhere {
				mustVerify(t, f.again(t, x), key)
				mustRefuse(t, f, key, verify.ReasonRevoked)
				f.clock.advance(nobodyTTL)
			} else { // a search for any string sees the new candidate
				mustRefuse(t, f, "lm_sys_nobody", verify.ReasonUnminted)
			}
			_, lists := x.counts()
			got, err := f.verifier.Verify(t.Context(), key)
			if err != nil || got.ID != after {
				t.Errorf("got %v, %v", got, err)
			}
			if _, n := x.counts(); elsewhere && n != lists {
				t.Errorf("%d searches for it", n-lists)
			}
		})
	}
}

// TestASearchForAMovedRowIsTriedAgain has the first searches not be made, or not come to
// their end.
func TestASearchForAMovedRowIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, hinder := range map[string]func(t *testing.T, f *fixture, x *index){
		"the lookups are used up": func(t *testing.T, f *fixture, _ *index) {
			t.Helper()
			var err error
			for i := 0; !later(err); i++ {
				_, err = f.verifier.Verify(t.Context(), fmt.Sprintf("lm_sys_flood-%d", i))
			}
		},
		"the store fails": func(_ *testing.T, f *fixture, x *index) {
			x.before = func() { f.store.setFail(store.ErrStandby) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, x := adopting(t)
			f.clock.freeze()
			key := shapes[1]
			before := f.foreign(t, key)
			mustVerify(t, f, key)
			hinder(t, f, x)
			f.store.remove(before)
			after := f.foreign(t, key)
			f.verifier.Forget(before)
			for range 2 {
				if _, err := f.verifier.Verify(t.Context(), key); err == nil || errors.Is(err, verify.ErrInvalidToken) {
					t.Errorf("while it is not known: %v", err)
				}
				f.searched(t)
				f.store.setFail(nil)
			}
			x.before = nil
			f.clock.advance(time.Second) // and the lookups are there again
			if got, err := f.verifier.Verify(t.Context(), key); err != nil || got.ID != after {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// TestAMovedRowAmongTooManyIsNotRefusedAsUnknown has the search not reach it.
func TestAMovedRowAmongTooManyIsNotRefusedAsUnknown(t *testing.T) {
	t.Parallel()
	f, _ := adopting(t)
	f.clock.freeze()
	key := shapes[1]
	before := f.foreign(t, key)
	mustVerify(t, f, key)
	for i := range adopt.MaxCandidates {
		f.store.put(store.Key{ID: store.ID{0, byte(i >> 8), byte(i)}, Hash: "$argon2id$unusable", Foreign: true})
	}
	f.store.remove(before)
	after := f.foreign(t, key) // the newest
	f.verifier.Forget(before)
	for range 5 { // whether or not the old row is looked at
		_, err := f.verifier.Verify(t.Context(), key)
		unavailable, ok := errors.AsType[*verify.UnavailableError](err)
		if !ok || !later(err) || unavailable.RetryAfter != nobodyTTL {
			t.Fatalf("got %v", err)
		}
		f.clock.advance(negativesTTL)
	}
	f.store.remove(store.ID{0, 0, 0})
	f.clock.advance(nobodyTTL)
	if got, err := f.verifier.Verify(t.Context(), key); err != nil || got.ID != after {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestALateRefusalUnderAnOldIDHarmsNobody has a request read a row that is gone, and
// another one find where it went meanwhile.
func TestALateRefusalUnderAnOldIDHarmsNobody(t *testing.T) {
	t.Parallel()
	for name, state := range map[string]coherence.LeaseState{"cached": coherence.LeaseCached, "direct": coherence.LeaseDirect} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f, x := adopting(t, func(c *verify.Config) { c.MaxEntries = 1 })
				f.lease.set(state)
				key := shapes[1]
				before := f.foreign(t, key)
				mustVerify(t, f, key)
				f.store.remove(before)
				after := f.foreign(t, key)
				f.verifier.Forget(before)
				release := make(chan struct{})
				f.store.setAfter(func(id store.ID) {
					if id == before {
						<-release
					}
				})
				late := make(chan error)
				go func() {
					_, err := f.verifier.Verify(t.Context(), key)
					late <- err
				}()
				synctest.Wait()
				f.foreign(t, shapes[0])
				mustVerify(t, f, shapes[0]) // and the hint is pushed out
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if got, err := f.verifier.Verify(ctx, key); err != nil || got.ID != after {
					t.Errorf("the one that found it: %v, %v", got, err)
				}
				_, lists := x.counts()
				close(release)
				if err := <-late; err != nil {
					t.Errorf("the late one: %v", err)
				}
				mustVerify(t, f, key)
				if _, n := x.counts(); n != lists {
					t.Errorf("%d more searches", n-lists)
				}
			})
		})
	}
}

// TestANewHashOfAnAdoptedKeyIsEntered has another service write one for the same string.
func TestANewHashOfAnAdoptedKeyIsEntered(t *testing.T) {
	t.Parallel()
	f, x := adopting(t)
	id := f.foreign(t, shapes[1])
	mustVerify(t, f, shapes[1])
	row := f.store.row(id)
	hash, err := phc.Hash(shapes[1], cheap)
	if err != nil {
		t.Fatal(err)
	}
	row.Hash = store.Hash(hash)
	f.store.put(row)
	f.verifier.Forget(id)
	mustVerify(t, f, shapes[1])
	restarted := f.again(t, x)
	mustVerify(t, restarted, shapes[1])
	if n := restarted.verifier.Stats().SearchRuns; n != 0 {
		t.Errorf("it was searched for again, in %d computations", n)
	}
}

// TestEachUnusableHashIsLogged once a minute.
func TestEachUnusableHashIsLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, unusableHashes)
}

func unusableHashes(t *testing.T) {
	t.Helper()
	var log bytes.Buffer
	f, _ := adopting(t, func(c *verify.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	ids := []store.ID{{1}, {2}, {3}}
	for _, id := range ids {
		f.store.put(store.Key{ID: id, Foreign: true, Hash: "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW"})
	}
	for minute := range 2 {
		for i := range 3 {
			mustRefuse(t, f, fmt.Sprintf("lm_sys_%d.%d", minute, i), verify.ReasonUnminted)
		}
		for _, id := range ids {
			if n := strings.Count(log.String(), id.String()); n != minute+1 {
				t.Errorf("minute %d: %s is in the log %d times", minute, id, n)
			}
		}
		time.Sleep(time.Minute)
	}
	if strings.Contains(log.String(), "R9h") {
		t.Error("the hash is in the log")
	}
}
