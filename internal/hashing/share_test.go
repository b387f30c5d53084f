package hashing

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestSearchesSpendAQuarterOfAProcessor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := NewShare(2)
		work := func(took time.Duration) (waited time.Duration) {
			t.Helper()
			asked := time.Now()
			if err := s.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			time.Sleep(took)
			s.Spend(began)
			return began.Sub(asked)
		}
		if waited := work(30 * time.Second); waited != 0 {
			t.Errorf("the first piece of work waited for %v", waited)
		}
		time.Sleep(time.Hour)
		work(40 * time.Second) // is never more than the budget holds
		work(20 * time.Millisecond)
		if waited := work(0).Round(time.Millisecond); waited != 60*time.Millisecond {
			t.Errorf("20 ms of work are followed by a pause of %v", waited)
		}
		worked := time.Duration(0)
		began := time.Now()
		for time.Since(began) < time.Hour {
			work(23 * time.Millisecond)
			worked += 23 * time.Millisecond
		}
		if share := worked.Seconds() / time.Since(began).Seconds(); share < 0.24 || share > 0.26 {
			t.Errorf("a share of %.3f was spent", share)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait = %v", err)
		}
	})
	one, two, more := NewShare(1).left, NewShare(2).left, NewShare(64).left
	if one.Limit() > 0.02e6 || more.Limit() != two.Limit() || more.Burst() != two.Burst() {
		t.Errorf("one processor gives %v, many give %v", one.Limit(), more.Limit())
	}
}
