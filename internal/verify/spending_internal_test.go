package verify

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestSearchesSpendAQuarterOfAProcessor(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := newSpending(allowanceOf(2), func() time.Time { return now })
	if s.spend(s.burst); s.debt() != 0 {
		t.Errorf("the first %v leave a debt of %v", s.burst, s.debt())
	}
	s.spend(20 * time.Millisecond)
	if got, want := s.debt().Round(time.Millisecond), 80*time.Millisecond; got != want {
		t.Errorf("the debt is %v, want %v", got, want)
	}
	if now = now.Add(80 * time.Millisecond); s.debt() > time.Microsecond {
		t.Errorf("the debt is %v when it was waited for", s.debt())
	}
	worked := time.Duration(0)
	for end := now.Add(time.Hour); now.Before(end); {
		if debt := s.debt(); debt > 0 {
			now = now.Add(debt)
			continue
		}
		s.spend(23 * time.Millisecond)
		worked += 23 * time.Millisecond
		now = now.Add(23 * time.Millisecond)
	}
	if share := worked.Seconds() / time.Hour.Seconds(); share < 0.24 || share > 0.26 {
		t.Errorf("a share of %.3f was spent", share)
	}
	if one, more := allowanceOf(1), allowanceOf(64); one.share > 0.02 || more != allowanceOf(2) {
		t.Errorf("one processor gives %+v, many give %+v", one, more)
	}
	s.spend(time.Hour) // one piece of work is never more than the bucket
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("wait = %v", err)
	}
}
