package verify

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// Bounds of the time that searches take.
const (
	// spendable is how much of it may be spent at once.
	spendable = 30 * time.Second
	// spendingShare is what comes in: a quarter of one processor.
	spendingShare = 0.25
)

// spending is a bucket of processor time. What was spent is known afterwards, so it
// goes below zero by one piece of work.
type spending struct {
	bucket *rate.Limiter
	now    func() time.Time
}

func newSpending(now func() time.Time) *spending {
	perSecond := rate.Limit(spendingShare * float64(time.Second/time.Microsecond))
	return &spending{rate.NewLimiter(perSecond, int(spendable.Microseconds())), now}
}

func (s *spending) spend(took time.Duration) {
	s.bucket.ReserveN(s.now(), int(min(took, spendable).Microseconds()))
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
