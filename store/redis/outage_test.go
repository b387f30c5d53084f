package redis_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

// An outage is a way for Redis to be away, and to come back.
type outage struct {
	name  string
	begin func(*testenv.Redis, *testenv.Link)
	end   func(*testenv.Redis, *testenv.Link)
}

var outages = []outage{
	{
		"Redis is killed",
		func(r *testenv.Redis, _ *testenv.Link) { r.Kill() },
		func(r *testenv.Redis, _ *testenv.Link) { r.Start() },
	},
	{
		"Redis is halted",
		func(r *testenv.Redis, _ *testenv.Link) { r.Pause() },
		func(r *testenv.Redis, _ *testenv.Link) { r.Resume() },
	},
	{
		"the network loses everything",
		func(_ *testenv.Redis, l *testenv.Link) { l.BlackHole() },
		func(_ *testenv.Redis, l *testenv.Link) { l.Heal() },
	},
	{
		"the network is too slow",
		func(_ *testenv.Redis, l *testenv.Link) { l.Slow(time.Hour) },
		func(_ *testenv.Redis, l *testenv.Link) { l.Heal() },
	},
	{
		"the network resets",
		func(_ *testenv.Redis, l *testenv.Link) { l.Reset() },
		func(_ *testenv.Redis, l *testenv.Link) { l.Heal() },
	},
	{
		"the network refuses",
		func(_ *testenv.Redis, l *testenv.Link) { l.Refuse() },
		func(_ *testenv.Redis, l *testenv.Link) { l.Heal() },
	},
}

func TestCacheOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	for _, outage := range outages {
		for when, connected := range map[string]bool{"connected": true, "not yet connected": false} {
			t.Run(outage.name+" while the cache is "+when, func(t *testing.T) {
				t.Parallel()
				server := testenv.StartRedis(t)
				link := testenv.Proxy(t, server.Addr())
				cache := newCache(t, redis.Options{
					Timeout:  100 * time.Millisecond,
					Cooldown: time.Second,
				}, "redis://"+link.Addr())
				if connected {
					awaitAnswer(t, cache)
				}

				outage.begin(server, link)
				opens(t, cache)
				outage.end(server, link)
				awaitAnswer(t, cache)
			})
		}
	}
}

// opens makes calls fail until the breaker opens, which it does after three.
func opens(t *testing.T, cache *redis.Cache) {
	t.Helper()
	for i := range 3 {
		err := soon(t, func() error { _, err := cache.Get(t.Context(), "k"); return err })
		if err == nil || errors.Is(err, redis.ErrUnavailable) {
			t.Fatalf("call %d on a Redis that is away gives %v", i+1, err)
		}
	}
	if err := soon(t, func() error { _, err := cache.Get(t.Context(), "k"); return err }); !errors.Is(err, redis.ErrUnavailable) {
		t.Fatalf("the fourth call gives %v, want %v", err, redis.ErrUnavailable)
	}
}

// soon makes a call that must not hang. Left to its defaults, the client
// library takes 20 seconds to give up.
func soon(t *testing.T, call func() error) error {
	t.Helper()
	result := make(chan error, 1)
	go func() { result <- call() }()
	select {
	case err := <-result:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("the call hangs")
		return nil
	}
}

func awaitAnswer(t *testing.T, cache *redis.Cache) {
	t.Helper()
	eventually(t, "the cache works", func() bool {
		if err := cache.Set(t.Context(), "k", []byte("v"), time.Hour); err != nil {
			return false
		}
		value, err := cache.Get(t.Context(), "k")
		return err == nil && string(value) == "v"
	})
}

func TestCallersWhoGoAwayDoNotCount(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t)
	cache := newCache(t, redis.Options{Timeout: 300 * time.Millisecond, Cooldown: time.Hour}, server.URL())
	awaitAnswer(t, cache)
	server.Pause()
	for range 4 { // three failures in a row would open the breaker
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Millisecond, cancel)
		if _, err := cache.Get(ctx, "k"); !errors.Is(err, context.Canceled) {
			t.Fatalf("the error is %v, want that of the context", err)
		}
	}
	server.Resume()
	// With a cooldown of an hour, this would not end if the breaker had opened.
	awaitAnswer(t, cache)
}

func TestDeadlinesOfCallersCount(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t)
	cache := newCache(t, redis.Options{Timeout: time.Hour, Cooldown: time.Hour}, server.URL())
	awaitAnswer(t, cache)
	server.Pause()
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err := soon(t, func() error { return ask(ctx, cache) })
		cancel()
		if err == nil || errors.Is(err, redis.ErrUnavailable) {
			t.Fatalf("a halted Redis gives %v", err)
		}
	}
	if err := ask(t.Context(), cache); !errors.Is(err, redis.ErrUnavailable) {
		t.Errorf("the fourth call gives %v, want %v", err, redis.ErrUnavailable)
	}
}
