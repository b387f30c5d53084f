package caddymodule

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// TestABudgetIsSharedAndGivenUp follows one through a reload: the new
// configuration counts on from where the old one was, and the last to go leaves
// nothing behind.
func TestABudgetIsSharedAndGivenUp(t *testing.T) {
	t.Parallel()
	limit := &FailureLimit{Count: 2, Window: caddy.Duration(time.Hour)}
	before, err := newFailures(limit)
	if err != nil {
		t.Fatal(err)
	}
	before.budget.Fail("192.0.2.1")
	before.budget.Fail("192.0.2.1")
	after, err := newFailures(limit)
	if err != nil {
		t.Fatal(err)
	}
	if err := before.release(); err != nil {
		t.Fatal(err)
	}
	if after.budget.Fail("192.0.2.1") == 0 {
		t.Error("what was counted is forgotten")
	}
	if err := after.release(); err != nil {
		t.Fatal(err)
	}
	if n, ok := budgets.References(limit.limit()); ok {
		t.Errorf("%d references are left", n)
	}
	again, err := newFailures(limit)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.release() }()
	if again.budget.Fail("192.0.2.1") != 0 {
		t.Error("a budget that nobody had any more was kept")
	}
	if _, err := newFailures(&FailureLimit{Count: 0, Window: caddy.Duration(time.Hour)}); err == nil {
		t.Error("a limit of nothing was taken")
	}
}

// TestHowManyAnswersAreHeldBack has all places be taken, and then a hundred
// clients that go away.
func TestHowManyAnswersAreHeldBack(t *testing.T) {
	t.Parallel()
	delayed.Add(1024) // as if so many waited
	if delayAnswer(t.Context()) {
		t.Error("one more waits than there is room for")
	}
	delayed.Add(-1024)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	var waiting sync.WaitGroup
	for range 100 {
		waiting.Go(func() {
			if !delayAnswer(ctx) {
				t.Error("there was no room")
			}
		})
	}
	waiting.Wait()
	if n := delayed.Load(); n != 0 {
		t.Errorf("%d are still counted as waiting", n)
	}
}
