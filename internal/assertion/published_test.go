package assertion

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestTheStoreIsAskedTwiceASecond however many ask for the keys.
func TestTheStoreIsAskedTwiceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := newMemory()
		p := NewPublished(keys, time.Now)
		defer p.Close()
		began := time.Now()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for time.Since(began) < 10*time.Second {
					if _, err := p.Current(t.Context()); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		wg.Wait()
		if n := keys.reads(); n < 15 || n > 25 {
			t.Errorf("the store was asked %d times in ten seconds", n)
		}
	})
}

// TestASetIsNeverOlderThanItMayBe has a store that takes its time, in which a key is
// published.
func TestASetIsNeverOlderThanItMayBe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := newMemory()
		keys.slow = 900 * time.Millisecond
		p := NewPublished(keys, time.Now)
		defer p.Close()
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = p.Current(t.Context()) }) // begins to read, now
		time.Sleep(10 * time.Millisecond)
		k := newKey()
		if err := keys.PublishSigningKey(t.Context(), k.public, keyLife); err != nil {
			t.Fatal(err)
		}
		time.Sleep(setFreshFor + 100*time.Millisecond)
		set, err := p.Current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := keySet([]store.SigningKey{k.public}); set.body != string(want) {
			t.Errorf("got %s", set.body)
		}
		wg.Wait()
	})
}

func TestTheLastSetServesForABoundedTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := newMemory()
		p := NewPublished(keys, time.Now)
		defer p.Close()
		keys.fail(errDown)
		if _, err := p.Current(t.Context()); !errors.Is(err, errDown) {
			t.Errorf("without any: %v", err)
		}
		keys.fail(nil)
		time.Sleep(retryInterval)
		first, err := p.Current(t.Context())
		if err != nil || first.Age != 0 {
			t.Fatalf("%+v, %v", first, err)
		}
		keys.fail(errDown)
		time.Sleep(setStaleFor - time.Second)
		reads := keys.reads()
		for range 100 {
			set, err := p.Current(t.Context())
			if err != nil || set.Age != setStaleFor-time.Second || set.body != first.body {
				t.Fatalf("%+v, %v", set, err)
			}
		}
		if keys.reads() != reads+1 {
			t.Errorf("a store that is down was asked %d times", keys.reads()-reads)
		}
		w := httptest.NewRecorder()
		set, _ := p.Current(t.Context())
		set.ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path, http.NoBody))
		if w.Header().Get("Age") != "479" {
			t.Errorf("the header is %v", w.Header())
		}
		time.Sleep(time.Second)
		if set, err := p.Current(t.Context()); !errors.Is(err, errDown) {
			t.Errorf("after the time: %+v, %v", set, err)
		}
		keys.fail(nil)
		time.Sleep(retryInterval)
		if set, err := p.Current(t.Context()); err != nil || set.Age != 0 {
			t.Errorf("when it is back: %+v, %v", set, err)
		}
	})
}

func TestWhoAsksWaitsNoLongerThanItWants(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := newMemory()
		keys.slow = time.Second
		p := NewPublished(keys, time.Now)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := p.Current(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		p.Close()
		if _, err := p.Current(t.Context()); err != nil {
			t.Errorf("what was read before the end: %v", err)
		}
	})
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config Config
		good   bool
	}{
		"a minute":                {Config{Audience: "a", TTL: time.Minute}, true},
		"a second":                {Config{Audience: "a", TTL: time.Second}, true},
		"the default":             {Config{Audience: "a"}, true},
		"more than a minute":      {Config{Audience: "a", TTL: 61 * time.Second}, false},
		"less than a second":      {Config{Audience: "a", TTL: time.Millisecond}, false},
		"less than nothing":       {Config{Audience: "a", TTL: -time.Second}, false},
		"a second and a half":     {Config{Audience: "a", TTL: 1500 * time.Millisecond}, false},
		"for nobody":              {Config{}, false},
		"for nobody, by somebody": {Config{Issuer: "x", TTL: time.Second}, false},
	} {
		if _, err := New(test.config); (err == nil) != test.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTarget(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ scheme, host, path, want string }{
		{"https", "api.example.com", "/a", "https://api.example.com/a"},
		{"HTTPS", "API.example.com:443", "/A%2f", "https://api.example.com/A%2f"},
		{"http", "api.example.com:80", "/", "http://api.example.com/"},
		{"http", "api.example.com:443", "/", "http://api.example.com:443/"},
		{"https", "[::1]:8443", "//x", "https://[::1]:8443//x"},
		{"http", "h", "*", "http://h"},
		{"http", "b.example", "", "http://b.example/"},
	} {
		if got := Target(test.scheme, test.host, test.path); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}
