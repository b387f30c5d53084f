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
	before, err := newFailures(nil, limit)
	if err != nil {
		t.Fatal(err)
	}
	before.budget.Fail("192.0.2.1")
	before.budget.Fail("192.0.2.1")
	after, err := newFailures(nil, limit)
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
	again, err := newFailures(nil, limit)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.release() }()
	if again.budget.Fail("192.0.2.1") != 0 {
		t.Error("a budget that nobody had any more was kept")
	}
	if _, err := newFailures(nil, &FailureLimit{Count: 0, Window: caddy.Duration(time.Hour)}); err == nil {
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

// TestAShutdownEndsTheDelay has an answer wait for an hour, and its server shut down. No
// limit is configured: beyond the default the same 401 comes late.
func TestAShutdownEndsTheDelay(t *testing.T) {
	address := testenv.FreeAddress(t)
	config := fmt.Sprintf(`{"admin": {"disabled": true}, "logging": {"logs": {"default": {"level": "ERROR"}}}, "apps": {
		"system_keys": {"store": {"driver": "sqlite", "file": %q}},
		"http": {"servers": {"one": {"listen": [%q], "automatic_https": {"disable": true},
			"routes": [{"handle": [{"handler": "system_key_auth"}]}]}}}}}`, filepath.Join(t.TempDir(), "keys.db"), address)
	if err := caddy.Load([]byte(config), true); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = caddy.Stop() }()
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		t.Fatal(err)
	}
	failures := app.(*caddyhttp.App).Servers["one"].Routes[0].Handlers[0].(*Handler).failures
	failures.delay = time.Hour
	for range failures.key.Count {
		failures.budget.Fail("127.0.0.1")
	}
	late := make(chan int, 1)
	go func() { // a slow machine may have forgotten a failure, so there may be more than one request
		for {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address, http.NoBody)
			r.Header.Set("Authorization", "Bearer lm_sys_"+strings.Repeat("0", 76))
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Error(err)
				late <- 0
				return
			}
			_ = response.Body.Close()
			if response.Header.Get("Retry-After") != "" {
				late <- response.StatusCode
				return
			}
		}
	}()
	for delayed.Load() == 0 && len(late) == 0 {
		time.Sleep(time.Millisecond)
	}
	if len(late) > 0 {
		t.Error("the answer was not late")
	}
	if err := caddy.Stop(); err != nil {
		t.Error(err)
	}
	if status := <-late; status != http.StatusUnauthorized {
		t.Errorf("beyond the limit: %d", status)
	}
}
