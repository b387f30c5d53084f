package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// TestABudgetIsSharedAndGivenUp follows one through a reload: the new
// configuration counts on from where the old one was, and the last to go leaves
// nothing behind.
func TestABudgetIsSharedAndGivenUp(t *testing.T) {
	t.Parallel()
	limit := &FailureLimit{Count: 2, Window: caddy.Duration(time.Hour)}
	before, err := newFailures(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	before.budget.Fail("192.0.2.1")
	before.budget.Fail("192.0.2.1")
	after, err := newFailures(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	if err := before.release(); err != nil {
		t.Fatal(err)
	}
	if after.budget.Fail("192.0.2.1") == 0 {
		t.Error("what was counted is forgotten")
	}
	if err := after.release(); err != nil {
		t.Fatal(err)
	}
	if n, ok := budgets.References(limit.limit()); ok {
		t.Errorf("%d references are left", n)
	}
	again, err := newFailures(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.release() }()
	if again.budget.Fail("192.0.2.1") != 0 {
		t.Error("a budget that nobody had any more was kept")
	}
	if _, err := newFailures(t.Context(), &FailureLimit{Count: 0, Window: caddy.Duration(time.Hour)}); err == nil {
		t.Error("a limit of nothing was taken")
	}
}

// TestHowManyAnswersAreHeldBack has all places be taken, and then a hundred
// clients that go away.
func TestHowManyAnswersAreHeldBack(t *testing.T) {
	f := &failures{delay: time.Hour}
	delayed.Add(1000) // as if so many waited
	if f.delayAnswer(t.Context()) {
		t.Error("one more waits than there is room for")
	}
	delayed.Add(-1000)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	var waiting sync.WaitGroup
	for range 100 {
		waiting.Go(func() {
			if !f.delayAnswer(ctx) {
				t.Error("there was no room")
			}
		})
	}
	waiting.Wait()
	if n := delayed.Load(); n != 0 {
		t.Errorf("%d are still counted as waiting", n)
	}
}

// TestAShutdownEndsTheDelay has an answer wait for an hour, and its server shut down.
func TestAShutdownEndsTheDelay(t *testing.T) {
	address := testenv.FreeAddress(t)
	config := fmt.Sprintf(`{"admin": {"disabled": true}, "logging": {"logs": {"default": {"level": "ERROR"}}}, "apps": {
		"system_keys": {"store": {"driver": "sqlite", "file": %q}},
		"http": {"servers": {"one": {"listen": [%q], "automatic_https": {"disable": true},
			"routes": [{"handle": [{"handler": "system_key_auth", "failure_limit": {"count": 1, "window": "1h"}}]}]}}}}}`,
		filepath.Join(t.TempDir(), "keys.db"), address)
	if err := caddy.Load([]byte(config), true); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = caddy.Stop() }()
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		t.Fatal(err)
	}
	app.(*caddyhttp.App).Servers["one"].Routes[0].Handlers[0].(*Handler).failures.delay = time.Hour
	answered := make(chan int, 2)
	for range 2 {
		go func() {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address, http.NoBody)
			r.Header.Set("Authorization", "Bearer lm_sys_"+strings.Repeat("0", 76))
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Error(err)
				answered <- 0
				return
			}
			_ = response.Body.Close()
			answered <- response.StatusCode
		}()
	}
	if status := <-answered; status != http.StatusUnauthorized {
		t.Errorf("within the limit: %d", status)
	}
	for delayed.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := caddy.Stop(); err != nil {
		t.Error(err)
	}
	if status := <-answered; status != http.StatusTooManyRequests {
		t.Errorf("beyond the limit: %d", status)
	}
}
