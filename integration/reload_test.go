package integration_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// site is a configuration that can be loaded again, changed a little.
type site struct {
	address string
	options string
	body    string
	extra   string
}

func (s site) caddyfile() string {
	return globals(s.options+"\n"+cheap) + fmt.Sprintf("http://%s {\n%s\n}\n%s", s.address, s.body, s.extra)
}

func TestReloadKeepsTheEngine(t *testing.T) {
	b := onSQLite(t)
	_, plain := mint(t, b.keys(t), "bot")
	s := site{address: testenv.FreeAddress(t), options: b.options, body: "system_key_auth\nreverse_proxy " + echo(t)}
	load(t, s.caddyfile())
	s.call(t, plain, http.StatusOK)
	before := app.Stats()
	if before.Argon2Runs == 0 || before.Engines != 1 {
		t.Fatalf("%+v", before)
	}
	s.body = "header X-Reloaded yes\n" + s.body
	load(t, s.caddyfile())
	s.call(t, plain, http.StatusOK)
	if after := app.Stats(); after != before {
		t.Errorf("before the reload %+v, after it %+v", before, after)
	}
}

func TestReloadOnAnotherStore(t *testing.T) {
	first, second := onSQLite(t), onSQLite(t)
	_, old := mint(t, first.keys(t), "old")
	_, renewed := mint(t, second.keys(t), "new")
	s := site{address: testenv.FreeAddress(t), options: first.options, body: "system_key_auth\nreverse_proxy " + echo(t)}
	load(t, s.caddyfile())
	s.call(t, old, http.StatusOK)
	s.call(t, renewed, http.StatusUnauthorized)
	s.options = second.options
	load(t, s.caddyfile())
	s.call(t, old, http.StatusUnauthorized)
	s.call(t, renewed, http.StatusOK)
	if stats := app.Stats(); stats.Engines != 1 {
		t.Errorf("%d engines after the old store was given up", stats.Engines)
	}
}

// TestRotatedFileNeedsAForcedReload changes what a file holds and nothing in the
// configuration that names it: `caddy reload` sees none of it, `--force` does.
func TestRotatedFileNeedsAForcedReload(t *testing.T) {
	first, second := onSQLite(t), onSQLite(t)
	_, old := mint(t, first.keys(t), "old")
	_, renewed := mint(t, second.keys(t), "new")
	named := filepath.Join(t.TempDir(), "store")
	hold := func(b *backend) {
		file := strings.TrimPrefix(b.options, "store sqlite ")
		if err := os.WriteFile(named, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hold(first)
	s := site{
		address: testenv.FreeAddress(t), options: "store sqlite {file." + named + "}",
		body: "system_key_auth\nreverse_proxy " + echo(t),
	}
	load(t, s.caddyfile())
	s.call(t, old, http.StatusOK)
	s.call(t, renewed, http.StatusUnauthorized)

	hold(second)
	if err := caddy.Load(adapt(t, s.caddyfile()), false); err != nil {
		t.Fatal(err)
	}
	s.call(t, old, http.StatusOK)
	s.call(t, renewed, http.StatusUnauthorized)
	load(t, s.caddyfile())
	s.call(t, old, http.StatusUnauthorized)
	s.call(t, renewed, http.StatusOK)
	if stats := app.Stats(); stats.Engines != 1 {
		t.Errorf("%d engines after the old store was given up", stats.Engines)
	}
}

// TestFailedReload tries configurations that fail when they are provisioned, when
// our app starts, and when another app starts; the one before goes on.
func TestFailedReload(t *testing.T) {
	b := onSQLite(t)
	_, plain := mint(t, b.keys(t), "bot")
	s := site{address: testenv.FreeAddress(t), options: b.options, body: "system_key_auth\nreverse_proxy " + echo(t)}
	load(t, s.caddyfile())
	blocker := httptest.NewUnstartedServer(http.NotFoundHandler())
	defer blocker.Close()
	taken := blocker.Listener.Addr().String()

	tests := []struct {
		name  string
		site  site
		wants string
	}{
		{"an empty secret", site{options: b.options + "\nsecret {env.SYSTEM_KEYS_TEST_UNSET}"}, "secret"},
		{"a folder that is not there", site{options: "store sqlite " + filepath.Join(t.TempDir(), "no", "keys.db")}, "no/keys.db"},
		{"a port that is taken", site{options: b.options, extra: fmt.Sprintf("http://%s {\nrespond no\n}\n", taken)}, taken[strings.LastIndex(taken, ":"):]},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.site.address, test.site.body = s.address, s.body
			err := tryLoad(t, adapt(t, test.site.caddyfile()))
			if err == nil || !strings.Contains(err.Error(), test.wants) {
				t.Fatalf("got %v", err)
			}
			s.call(t, plain, http.StatusOK)
			if stats := app.Stats(); stats.Engines != 1 || stats.References != 1 {
				t.Errorf("after the failure: %+v", stats)
			}
		})
	}
}

// TestRequestInFlightAcrossAReload holds a request while the store that let it
// through is given up.
func TestRequestInFlightAcrossAReload(t *testing.T) {
	first, second := onSQLite(t), onSQLite(t)
	_, plain := mint(t, first.keys(t), "bot")
	arrived, release := make(chan struct{}), make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-release
		_, _ = io.WriteString(w, r.Header.Get("X-Lumio-Key-Label"))
	}))
	defer upstream.Close()
	s := site{address: testenv.FreeAddress(t), options: first.options, body: "system_key_auth\nreverse_proxy " + upstream.Listener.Addr().String()}
	load(t, s.caddyfile())
	answered := make(chan string, 1)
	go func() {
		request, _ := http.NewRequest(http.MethodGet, "http://"+s.address, nil)
		request.Header.Set("Authorization", "Bearer "+plain)
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		answered <- fmt.Sprint(response.StatusCode, " ", string(body), " ", err)
	}()
	<-arrived
	s.options = second.options
	load(t, s.caddyfile())
	close(release)
	if got := <-answered; got != "200 bot <nil>" {
		t.Errorf("the request in flight got %q", got)
	}
}

// TestManyReloadsDoNotGrow reloads with the same store and with changing ones.
func TestManyReloadsDoNotGrow(t *testing.T) {
	reloads := 100
	if soak() {
		reloads = 1000
	}
	b := onSQLite(t)
	_, plain := mint(t, b.keys(t), "bot")
	s := site{address: testenv.FreeAddress(t), options: b.options, body: "system_key_auth\nreverse_proxy " + echo(t)}
	load(t, s.caddyfile())
	s.call(t, plain, http.StatusOK)
	var before int
	for i := range reloads {
		s.options = b.options
		if i%10 == 1 {
			s.options += fmt.Sprintf("\nlease %ds", 1+i%60) // an engine of its own
		}
		if err := tryLoad(t, adapt(t, s.caddyfile())); err != nil {
			t.Fatal(err)
		}
		if i == 20 {
			s.call(t, plain, http.StatusOK)
			before = settled()
		}
	}
	s.call(t, plain, http.StatusOK)
	eventually(t, "goroutines end", func() bool { return settled() <= before+5 })
	if stats := app.Stats(); stats.Engines != 1 || stats.References != 1 {
		t.Errorf("after %d reloads: %+v", reloads, stats)
	}
}

func settled() int {
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	runtime.Gosched()
	return runtime.NumGoroutine()
}

func (s site) call(tb testing.TB, key string, want int) {
	tb.Helper()
	if status, _, body := get(tb, "http://"+s.address, "Bearer "+key); status != want {
		tb.Fatalf("got %d, want %d: %s", status, want, body)
	}
}

// TestStoreThatIsNotThereYet starts before PostgreSQL does.
func TestStoreThatIsNotThereYet(t *testing.T) {
	b, server := onPrivatePostgres(t)
	b.options += "lease 1s\n"
	_, plain := mint(t, b.keys(t), "bot")
	server.Stop()
	address := run(t, b, "system_key_auth {\npassthrough\n}\nreverse_proxy "+echo(t))
	began := time.Now()
	status, header, body := get(t, "http://"+address, "Bearer "+plain)
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || !strings.Contains(body, `"unavailable"`) {
		t.Errorf("after %s: %d %v %s", time.Since(began), status, header, body)
	}
	if status, _, _ := get(t, "http://"+address, ""); status != http.StatusOK {
		t.Errorf("a request without a key got %d", status)
	}
	server.Start()
	eventually(t, "the store is found", func() bool {
		status, _, _ := get(t, "http://"+address, "Bearer "+plain)
		return status == http.StatusOK
	})
	// And is lost again: cached for the length of the lease, then 503, never 401.
	server.Kill()
	eventually(t, "the loss is noticed", func() bool {
		status, _, _ := get(t, "http://"+address, "Bearer "+plain)
		if status == http.StatusUnauthorized {
			t.Fatal("an outage is told as a bad key")
		}
		return status == http.StatusServiceUnavailable
	})
	server.Start()
	eventually(t, "the store is back", func() bool {
		status, _, _ := get(t, "http://"+address, "Bearer "+plain)
		return status == http.StatusOK
	})
}
