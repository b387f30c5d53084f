package hashing

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// Share is how much time of the processors a kind of work may take, beside that of [Slots]: so
// much at once, and a share of one processor from then on. It is safe for concurrent use.
type Share struct{ left *rate.Limiter } // in microseconds

// NewShare makes a share for work that nobody needs at once: half a minute of a processor, and
// then a quarter. A computation holds a processor for some twenty milliseconds. If there is no
// other processor everybody waits for it, so there such work has to be rare.
func NewShare(processors int) *Share {
	burst, share := 30*time.Second, 0.25
	if processors == 1 {
		burst, share = 3*time.Second, 0.02
	}
	return &Share{rate.NewLimiter(rate.Limit(share*1e6), int(burst.Microseconds()))}
}

// Wait returns when a piece of work may begin, or with the error of ctx.
func (s *Share) Wait(ctx context.Context) error { return s.left.Wait(ctx) }

// Spend takes what has passed since a piece of work began. This is known when it is done, so the
// share may be overdrawn by one piece. The time is that of the clock: if the processors are busy
// a computation takes longer, and the work becomes rarer.
func (s *Share) Spend(began time.Time) {
	now := time.Now() //nolint:forbidigo // the limiter waits by the real clock
	s.left.ReserveN(now, min(int(now.Sub(began).Microseconds()), s.left.Burst()))
}
