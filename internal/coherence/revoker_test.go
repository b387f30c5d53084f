package coherence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// waiting is a revocation that waits, with answers that a test writes.
type waiting struct {
	stub    *stub
	members []store.Member
	down    bool
	head    int64
	watched bool
	events  []event
	revoker *Revoker
}

// event is something that has happened by the time the members are asked for.
type event struct {
	at time.Time
	do func()
}

func newWaiting(members ...store.Member) *waiting {
	w := &waiting{stub: new(stub), members: members, head: 5, watched: true}
	w.stub.progress = func() (*store.Progress, error) {
		w.catchUp()
		if w.down {
			return nil, errors.New("down")
		}
		return &store.Progress{Head: at(w.head), Watched: w.watched, Origin: "one", Members: append([]store.Member(nil), w.members...)}, nil
	}
	w.revoker = NewRevoker(w.stub, time.Now, slog.New(slog.DiscardHandler))
	return w
}

// in has something happen later, beside the wait.
func (w *waiting) in(d time.Duration, do func()) {
	w.events = append(w.events, event{time.Now().Add(d), do})
}

func (w *waiting) catchUp() {
	for len(w.events) > 0 && !time.Now().Before(w.events[0].at) {
		w.events[0].do()
		w.events = w.events[1:]
	}
}

// wait returns the report and how long it took.
func (w *waiting) wait(t *testing.T) (Report, time.Duration) {
	t.Helper()
	began := time.Now()
	report, err := w.revoker.Wait(t.Context(), []store.ID{testID(1)}, began, nil)
	if err != nil {
		t.Errorf("the wait failed: %v", err)
	}
	return report, time.Since(began)
}

func member(n byte, applied int64) store.Member {
	return store.Member{ID: testID(n), TTL: testTTL, Applied: applied, Heartbeat: int64(n)}
}

func TestWaitForAcknowledgements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiting(member(1, 5), member(2, 4))
		w.in(time.Second, func() { w.members[1].Applied = 5 })
		report, took := w.wait(t)
		if report.Total != 2 || report.Acknowledged != 2 || len(report.Expired) != 0 || len(report.Awaited) != 0 {
			t.Errorf("the report is %+v", report)
		}
		if took < time.Second || took > time.Second+2*maxPoll {
			t.Errorf("it took %v", took)
		}
	})
}

func TestWaitForALeaseToRunOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiting(member(1, 5), member(2, 4))
		report, took := w.wait(t)
		if report.Acknowledged != 1 || len(report.Expired) != 1 || report.Expired[0].ID != testID(2) {
			t.Errorf("the report is %+v", report)
		}
		if took < testTTL || took > testTTL+2*maxPoll {
			t.Errorf("it took %v, the ttl is %v", took, testTTL)
		}
		if len(w.stub.reaped) == 0 {
			t.Error("the silent member was not removed, and the next revocation waits for it again")
		}
	})
}

func TestWaitForWhoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiting(member(1, 5), member(2, 4))
		w.in(time.Second, func() { w.members = w.members[:1] })
		if report, took := w.wait(t); len(report.Expired) != 1 || took > 2*time.Second {
			t.Errorf("after %v the report is %+v", took, report)
		}
	})
}

func TestWaitForNobodyWhoJoinsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiting(member(1, 4))
		w.in(time.Second, func() { w.members = append(w.members, member(2, 0)) })
		w.in(2*time.Second, func() { w.members[0].Applied = 5 })
		if report, took := w.wait(t); report.Total != 1 || took > 3*time.Second {
			t.Errorf("after %v the report is %+v", took, report)
		}
	})
}

// Who the members are has to be asked after the commit. While that is not possible
// any of them may hold a lease.
func TestWaitWithoutAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiting(member(1, 5))
		w.down = true
		if report, took := w.wait(t); took < store.MaxTTL || report.Total != 0 {
			t.Errorf("after %v the report is %+v", took, report)
		}
	})
}

func TestWaitOverARestartOfTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiting(member(1, 4))
		w.in(time.Second, func() { w.down = true })
		w.in(3*time.Second, func() { w.down, w.members[0].Applied = false, 5 })
		if report, took := w.wait(t); report.Acknowledged != 1 || took < 3*time.Second {
			t.Errorf("after %v the report is %+v", took, report)
		}
	})
}

func TestWaitBehindABarrierWithoutTriggers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiting(member(1, 5))
		w.watched = false
		w.stub.progress = func() (*store.Progress, error) {
			w.catchUp()
			if w.stub.barriers > 0 {
				w.head = 6
			}
			return &store.Progress{Head: at(w.head), Origin: "one", Members: append([]store.Member(nil), w.members...)}, nil
		}
		w.in(time.Second, func() { w.members[0].Applied = 6 })
		if _, took := w.wait(t); w.stub.barriers != 1 || took < time.Second {
			t.Errorf("after %v there are %d barriers", took, w.stub.barriers)
		}
	})
}

// A restored backup may lack members that hold leases.
func TestWaitWhileTheHistoryIsUnsettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiting(member(1, 4))
		w.in(time.Second, func() { w.head, w.members = 3, nil })
		if _, took := w.wait(t); took < time.Second+testTTL {
			t.Errorf("it took %v after the log went back", took)
		}
	})
}

func TestWaitIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiting(member(1, 4))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var watched []Report
		report, err := w.revoker.Wait(ctx, []store.ID{testID(1)}, time.Now(), func(r Report) { watched = append(watched, r) })
		if !errors.Is(err, context.DeadlineExceeded) || len(report.Awaited) != 1 || len(report.Expired) != 0 {
			t.Errorf("the error is %v, the report %+v", err, report)
		}
		if len(watched) < 2 || len(watched[0].Awaited) != 1 {
			t.Errorf("%d reports were watched", len(watched))
		}
	})
}

// The clock of the wait starts at the commit, whatever came before the call.
func TestWaitCountsFromTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiting(member(1, 4))
		committed := time.Now()
		time.Sleep(testTTL / 2)
		began := time.Now()
		if _, err := w.revoker.Wait(t.Context(), []store.ID{testID(1)}, committed, nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < testTTL/2 || took > testTTL/2+2*maxPoll {
			t.Errorf("it took %v", took)
		}
	})
}

// A revocation whose database was replaced while it was waited for has no answer,
// however long ago the leases have run out.
func TestADatabaseThatWasReplacedIsNoAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWaiting(store.Member{ID: testID(1), TTL: testTTL})
		answer := w.stub.progress
		asked := 0
		w.stub.progress = func() (*store.Progress, error) {
			if asked++; asked > 3 {
				return nil, fmt.Errorf("look at the instances: %w", store.ErrReplaced)
			}
			return answer()
		}
		if report, err := w.revoker.Wait(t.Context(), []store.ID{testID(1)}, time.Now(), nil); !errors.Is(err, store.ErrReplaced) {
			t.Errorf("Wait = %+v, %v; want ErrReplaced", report, err)
		}
	})
}

// A standby that was promoted may have missed the deletion. Then the key is there
// again, and nothing was revoked.
func TestARevocationThatTheNextHistoryLacks(t *testing.T) {
	t.Parallel()
	unreachable := errors.New("unreachable")
	for name, c := range map[string]struct {
		key  error // of looking for it there
		want error
	}{
		"the key is there":        {nil, ErrUndone},
		"the key is gone":         {store.ErrNotFound, nil},
		"nobody can say":          {unreachable, unreachable},
		"the row is of elsewhere": {store.ErrOtherHistory, store.ErrOtherHistory},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWaiting(member(1, 4))
				w.stub.key = func(store.ID) (*store.Key, error) { return &store.Key{}, c.key }
				w.in(time.Second, func() { w.head, w.members = 3, []store.Member{member(1, 3)} })
				began := time.Now()
				_, err := w.revoker.Wait(t.Context(), []store.ID{testID(1)}, began, nil)
				if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
					t.Errorf("Wait returned %v, want %v", err, c.want)
				}
				if took := time.Since(began); took < testTTL || took > testTTL+time.Second+2*maxUnsure {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// Of many keys the last one tells: a history that has its deletion has those before it.
func TestTheLastOfManyKeysTells(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWaiting(member(1, 4))
		w.stub.key = func(id store.ID) (*store.Key, error) {
			if id == testID(2) {
				return &store.Key{}, nil
			}
			return nil, store.ErrNotFound
		}
		w.in(time.Second, func() { w.head, w.members = 3, []store.Member{member(1, 3)} })
		keys := []store.ID{testID(1), testID(2)}
		if _, err := w.revoker.Wait(t.Context(), keys, time.Now(), nil); !errors.Is(err, ErrUndone) {
			t.Errorf("Wait returned %v, want ErrUndone", err)
		}
	})
}

// A server of another history is no answer, and is not waited for without end.
func TestAnAnswerFromAnotherHistory(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		until time.Duration
		want  error
	}{
		"for a moment": {maxUnsure / 2, nil},
		"for good":     {time.Hour, store.ErrOtherHistory},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWaiting(member(1, 5))
				answer, began := w.stub.progress, time.Now()
				w.stub.progress = func() (*store.Progress, error) {
					if time.Since(began) < c.until {
						return nil, store.ErrOtherHistory
					}
					return answer()
				}
				_, err := w.revoker.Wait(t.Context(), []store.ID{testID(1)}, began, nil)
				if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
					t.Errorf("Wait returned %v, want %v", err, c.want)
				}
				if took := time.Since(began); took < min(c.until, maxUnsure) || took > maxUnsure+time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}
