package redis_test

import (
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

func TestTheStateOfTheBreaker(t *testing.T) {
	t.Parallel()
	server := newMute(t)
	close(server.hangUp)
	cache := newCache(t, redis.Options{Cooldown: 10 * time.Millisecond}, server.url)
	if got := cache.State(); got != redis.StateClosed {
		t.Errorf("at first it is %q", got)
	}
	patient := newCache(t, redis.Options{Cooldown: time.Hour}, server.url)
	for range 3 {
		_ = cache.Ping(t.Context())
		_ = patient.Ping(t.Context())
	}
	if got := patient.State(); got != redis.StateOpen {
		t.Errorf("after three failures it is %q", got)
	}
	eventually(t, "one call may try again", func() bool { return cache.State() == redis.StateHalfOpen })
}
