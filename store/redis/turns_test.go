package redis_test

import (
	"errors"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

// TestABurstIsNoFailureOfRedis has more calls at once than there are connections.
// Their answers take a while, so that the last wait for longer than a call may take.
func TestABurstIsNoFailureOfRedis(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		latency time.Duration
		waiting bool // for longer than calls wait for their turn
	}{
		{"nearly all have their turn", 10 * time.Millisecond, false}, // all, if the machine is not busy
		{"some do not", 100 * time.Millisecond, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			link := testenv.Proxy(t, testenv.StartRedis(t).Addr())
			cache := newCache(t, redis.Options{Timeout: 400 * time.Millisecond, Cooldown: time.Hour}, "redis://"+link.Addr()+"?pool_size=2")
			awaitAnswer(t, cache)
			link.Slow(test.latency)
			const calls = 100
			answers := make(chan error, calls)
			for range calls {
				go func() { answers <- ask(t.Context(), cache) }()
			}
			busy := 0
			for range calls {
				switch err := <-answers; {
				case errors.Is(err, redis.ErrBusy):
					busy++
				case err != nil:
					t.Error(err)
				}
			}
			if test.waiting && busy == 0 || !test.waiting && busy > calls/2 || busy == calls {
				t.Errorf("%d calls of %d did not have their turn", busy, calls)
			}
			if state := cache.State(); state != redis.StateClosed {
				t.Errorf("the breaker is %s", state)
			}
		})
	}
}
