package expiry

import (
	"context"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

const (
	// countEvery is how old counts may get. Time alone changes them slowly.
	countEvery = 5 * time.Minute
	// countTimeout bounds a count, since a scrape of the metrics waits for it.
	countTimeout = 2 * time.Second
)

// Window is a time ahead.
type Window struct {
	Name   string
	Length time.Duration
}

// Windows are the times within which [Keeper.Expiring] counts.
var Windows = []Window{{"1d", 24 * time.Hour}, {"7d", 7 * 24 * time.Hour}, {"30d", 30 * 24 * time.Hour}}

// counts are the last counts, and when and at which place in the change log they were made.
type counts struct {
	mu    sync.Mutex
	known []int
	at    time.Time
	rev   int64
}

// Expiring returns how many live keys expire within each of the [Windows], and whether the
// store says so. Keys that were replaced are meant to end, and do not count. Rev is the newest
// change of a key that this instance has seen. The store is asked only if that has changed, or
// if the counts are old. So a store at rest is hardly ever asked, however often the metrics
// are read.
func (k *Keeper) Expiring(rev int64) ([]int, bool) {
	c := &k.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	now := k.config.Now()
	if c.known != nil && c.rev == rev && now.Sub(c.at) < countEvery {
		return c.known, true
	}
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	known := make([]int, 0, len(Windows))
	for _, window := range Windows {
		page, err := k.config.Store.Keys(ctx, &store.KeyQuery{
			Limit: 1, Sort: store.SortExpiresAt, LiveAt: now, ExpiringBefore: now.Add(window.Length), Unreplaced: true,
		})
		if err != nil {
			return nil, false
		}
		known = append(known, page.Total)
	}
	c.known, c.at, c.rev = known, now, rev
	return known, true
}
