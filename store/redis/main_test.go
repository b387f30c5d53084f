package redis_test

import (
	"context"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

// urlsVariable makes this test binary use caches on the URLs that the variable
// names, none of which answers, to see what is written to standard error.
const urlsVariable = "REDIS_TEST_URLS"

func TestMain(m *testing.M) {
	if urls := os.Getenv(urlsVariable); urls != "" {
		complain(urls)
		os.Exit(0)
	}
	// toxiproxy leaves this one behind if a client hangs up on an answer that is delayed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*LatencyToxic).Pipe"))
}

// newCache makes a cache that is closed with its test. Its timeout is long
// enough for a machine that is busy with other tests.
func newCache(tb testing.TB, opts redis.Options, urls ...string) *redis.Cache {
	tb.Helper()
	if opts.Timeout == 0 {
		opts.Timeout = 2 * time.Second
	}
	cache, err := redis.New(urls, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := cache.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return cache
}

// ask asks whether Redis answers.
func ask(ctx context.Context, cache *redis.Cache) error {
	_, err := cache.Get(ctx, "a key that is not there")
	return err
}

func mustSet(tb testing.TB, cache *redis.Cache, key, value string) {
	tb.Helper()
	if err := cache.Set(context.WithoutCancel(tb.Context()), key, []byte(value), time.Hour); err != nil {
		tb.Fatal(err)
	}
}

// wantValue fails the test unless the key has the value; "" stands for none.
func wantValue(tb testing.TB, cache *redis.Cache, key, want string) {
	tb.Helper()
	got, err := cache.Get(tb.Context(), key)
	if err != nil {
		tb.Fatal(err)
	}
	if string(got) != want || (got == nil) != (want == "") {
		tb.Errorf("%s is %q, want %q", key, got, want)
	}
}

// eventually waits for a condition that comes true by itself.
func eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			tb.Fatalf("%s: not within 30 s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
