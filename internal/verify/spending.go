package verify

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// allowance bounds the time that searches take: how much of it may be spent at once,
// and which share of one processor comes in.
type allowance struct {
	burst time.Duration
	share float64
}

// allowanceOf is for so many processors. A computation holds one for some twenty
// milliseconds; where there is no other everybody waits for it, so that searches have
// to be rare enough not to show.
func allowanceOf(processors int) allowance {
	if processors == 1 {
		return allowance{burst: 3 * time.Second, share: 0.02}
	}
	return allowance{burst: 30 * time.Second, share: 0.25}
}

// spending is a bucket of processor time. What was spent is known afterwards, so it
// goes below zero by one piece of work. The time is that of the clock: where the
// processors are busy a computation takes longer, and searches become rarer.
type spending struct {
	burst  time.Duration
	bucket *rate.Limiter
	now    func() time.Time
}

func newSpending(a allowance, now func() time.Time) *spending {
	perSecond := rate.Limit(a.share * float64(time.Second/time.Microsecond))
	return &spending{a.burst, rate.NewLimiter(perSecond, int(a.burst.Microseconds())), now}
}

func (s *spending) spend(took time.Duration) {
	s.bucket.ReserveN(s.now(), int(min(took, s.burst).Microseconds()))
}

// debt is how long it takes until something may be spent again.
func (s *spending) debt() time.Duration {
	missing := -s.bucket.TokensAt(s.now())
	return max(0, time.Duration(missing/float64(s.bucket.Limit())*float64(time.Second)))
}

// wait returns when something may be spent, or the error of ctx.
func (s *spending) wait(ctx context.Context) error {
	for {
		debt := s.debt()
		if debt == 0 || ctx.Err() != nil {
			return ctx.Err()
		}
		timer := time.NewTimer(debt)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}
