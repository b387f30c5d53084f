package coherence

import "time"

// instant is one reading of both clocks.
type instant struct {
	mono time.Duration // since an arbitrary moment
	wall time.Duration // since the Unix epoch
}

// clock reads the time, and takes a reading apart.
type clock struct {
	now   func() time.Time
	split func(time.Time) instant
}

// clockOf takes readings that carry the monotonic clock, as those of [time.Now]
// do.
func clockOf(now func() time.Time) clock {
	base := now()
	return clock{now: now, split: func(t time.Time) instant {
		return instant{mono: t.Sub(base), wall: time.Duration(t.UnixNano())}
	}}
}
