package redis_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

func TestCacheReturnsWhatWasSet(t *testing.T) {
	t.Parallel()
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for name, value := range map[string][]byte{
		"text":           []byte("value"),
		"every byte":     every,
		"nothing at all": {},
		"a large value":  bytes.Repeat([]byte("0123456789abcdef"), 10_000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := newCache(t, redis.Options{}, testenv.RedisURL(t))
			if err := cache.Set(t.Context(), "k", value, time.Hour); err != nil {
				t.Fatal(err)
			}
			got, err := cache.Get(t.Context(), "k")
			if err != nil {
				t.Fatal(err)
			}
			if got == nil || !bytes.Equal(got, value) {
				t.Errorf("%d bytes came back, want the %d that were set", len(got), len(value))
			}
		})
	}
}

func TestCacheHasNothingForAKeyThatIsAbsent(t *testing.T) {
	t.Parallel()
	cache := newCache(t, redis.Options{}, testenv.RedisURL(t))
	for range 10 {
		wantValue(t, cache, "k", "")
	}
}

func TestCacheOverwrites(t *testing.T) {
	t.Parallel()
	cache := newCache(t, redis.Options{}, testenv.RedisURL(t))
	mustSet(t, cache, "k", "old")
	mustSet(t, cache, "k", "new")
	wantValue(t, cache, "k", "new")
}

func TestCacheForgetsAfterTheTimeToLive(t *testing.T) {
	t.Parallel()
	url := testenv.RedisURL(t)
	cache, plain := newCache(t, redis.Options{}, url), client(t, url)
	for _, ttl := range []time.Duration{1500 * time.Millisecond, time.Minute, 24 * time.Hour} {
		if err := cache.Set(t.Context(), "k", []byte("v"), ttl); err != nil {
			t.Fatal(err)
		}
		if left := plain.PTTL(t.Context(), "k").Val(); left <= 0 || left > ttl {
			t.Errorf("set for %v, the key has %v left", ttl, left)
		}
	}
	if err := cache.Set(t.Context(), "k", []byte("v"), time.Millisecond); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key goes", func() bool {
		value, err := cache.Get(t.Context(), "k")
		return err == nil && value == nil
	})
}

func TestCacheKeepsNothingForEver(t *testing.T) {
	t.Parallel()
	cache := newCache(t, redis.Options{}, testenv.RedisURL(t))
	for _, ttl := range []time.Duration{0, -1, -time.Hour, time.Millisecond - 1} {
		if err := cache.Set(t.Context(), "k", []byte("v"), ttl); err == nil {
			t.Errorf("set for %v is no error", ttl)
		}
	}
	wantValue(t, cache, "k", "")
}

func TestCacheFailsWhenItIsClosed(t *testing.T) {
	t.Parallel()
	cache := newCache(t, redis.Options{}, testenv.RedisURL(t))
	if err := ask(t.Context(), cache); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := cache.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := cache.Get(t.Context(), "k"); err == nil {
		t.Error("a closed cache answers")
	}
}

func TestCacheHonoursAContextThatIsDone(t *testing.T) {
	t.Parallel()
	cache := newCache(t, redis.Options{}, testenv.RedisURL(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 {
		if _, err := cache.Get(ctx, "k"); !errors.Is(err, context.Canceled) {
			t.Fatalf("the error is %v, want that of the context", err)
		}
	}
	wantValue(t, cache, "k", "")
}

func TestNewDoesNotConnect(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t)
	before := connections(t, server)
	for range 3 {
		newCache(t, redis.Options{}, server.URL())
	}
	if got := connections(t, server) - before; got != 1 {
		t.Errorf("there were %d connections, want only the one that asks", got)
	}
}

func TestAConnectionCostsOneRoundTrip(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t)
	cache := newCache(t, redis.Options{}, server.URL())
	mustSet(t, cache, "k", "v")
	wantValue(t, cache, "k", "v")
	// A ping is how the test environment knew that the server was up, and what
	// asks for these names says hello too.
	want := []string{"get", "hello", "ping", "set"}
	if diff := cmp.Diff(want, commands(t, server)); diff != "" {
		t.Errorf("the server was given want(-) got(+):\n%s", diff)
	}
	// What a server is too old for is not among its commands.
	if refused := info(t, server, "errorstats"); strings.Contains(refused, "errorstat_") {
		t.Errorf("the server has refused something:\n%s", refused)
	}
}

func TestNewRefusesNegativeOptions(t *testing.T) {
	t.Parallel()
	for _, opts := range []redis.Options{{Timeout: -1}, {Cooldown: -1}} {
		if _, err := redis.New([]string{"redis://localhost"}, opts); err == nil {
			t.Errorf("%+v is accepted", opts)
		}
	}
}
