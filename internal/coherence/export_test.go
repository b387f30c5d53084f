package coherence

import "time"

// NewLeaseOn makes a lease on clocks that a test moves apart: now gives readings
// that split takes apart.
func NewLeaseOn(ttl time.Duration, now func() time.Time, split func(time.Time) (mono, wall time.Duration)) *Lease {
	return &Lease{
		ttl: ttl,
		clock: clock{now: now, split: func(t time.Time) (i instant) {
			i.mono, i.wall = split(t)
			return i
		}},
		wanted: make(chan struct{}, 1),
	}
}
