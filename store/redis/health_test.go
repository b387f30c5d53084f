package redis_test

import (
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

// TestTheStartSaysWhatIsWrong has a Redis that is set up wrong, in each way that
// people have. The log has one line, without the password.
func TestTheStartSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	plain := func(url string) func(*testenv.Redis) string {
		return func(*testenv.Redis) string { return url }
	}
	command := func(args ...any) func(*testing.T, *testenv.Redis) {
		return func(t *testing.T, server *testenv.Redis) {
			t.Helper()
			if err := client(t, server.URL()).Do(t.Context(), args...).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	encrypted := httptest.NewUnstartedServer(http.NotFoundHandler()) // stands for a Redis with TLS
	encrypted.Config.ErrorLog = log.New(io.Discard, "", 0)
	encrypted.StartTLS()
	t.Cleanup(encrypted.Close)
	for name, test := range map[string]struct {
		password      string
		prepare       func(*testing.T, *testenv.Redis)
		url           func(*testenv.Redis) string
		reads, writes redis.Condition
		want          string
	}{
		"nothing is":                     {"", nil, (*testenv.Redis).URL, redis.OK, redis.OK, ""},
		"the password is right":          {"hunter2", nil, (*testenv.Redis).URL, redis.OK, redis.OK, ""},
		"the password is not given":      {"hunter2", nil, func(r *testenv.Redis) string { return "redis://" + r.Addr() }, redis.Failing, redis.Failing, "NOAUTH"},
		"the password is wrong":          {"right", nil, func(r *testenv.Redis) string { return "redis://:hunter2@" + r.Addr() }, redis.Failing, redis.Failing, "WRONGPASS"},
		"there is no such database":      {"", nil, func(r *testenv.Redis) string { return r.URL() + "/9999" }, redis.Failing, redis.Failing, "ERR: there is no such database"},
		"it does not speak TLS":          {"", nil, func(r *testenv.Redis) string { return "rediss://:hunter2@" + r.Addr() }, redis.Unreachable, redis.Unreachable, "TLS"},
		"it speaks TLS":                  {"", nil, plain(strings.Replace(encrypted.URL, "https://", "redis://:hunter2@", 1)), redis.Unreachable, redis.Unreachable, "TLS"},
		"its certificate is not trusted": {"", nil, plain(strings.Replace(encrypted.URL, "https://", "rediss://:hunter2@", 1)), redis.Unreachable, redis.Unreachable, "TLS: x509: certificate signed by unknown authority"},
		"it is not there":                {"", nil, plain("redis://:hunter2@127.0.0.1:1"), redis.Unreachable, redis.Unreachable, "connection refused"},
		"it is a read-only replica":      {"", command("REPLICAOF", "127.0.0.1", "1"), (*testenv.Redis).URL, redis.OK, redis.Failing, "READONLY"},
		"it is full":                     {"", command("CONFIG", "SET", "maxmemory", "1"), (*testenv.Redis).URL, redis.OK, redis.Failing, "OOM"},
		"the user may only read": {
			"", command("ACL", "SETUSER", "reader", "on", ">hunter2", "~*", "+get"),
			func(r *testenv.Redis) string { return "redis://reader:hunter2@" + r.Addr() }, redis.OK, redis.Failing, "NOPERM",
		},
		"the user may only write": {
			"", command("ACL", "SETUSER", "writer", "on", ">hunter2", "~*", "+set"),
			func(r *testenv.Redis) string { return "redis://writer:hunter2@" + r.Addr() }, redis.Failing, redis.OK, "NOPERM",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var settings []testenv.Option
			if test.password != "" {
				settings = append(settings, testenv.Setting("requirepass", test.password))
			}
			server := testenv.StartRedis(t, settings...)
			if test.prepare != nil {
				test.prepare(t, server)
			}
			var written syncBuffer
			cache := newCache(t, redis.Options{Cooldown: time.Hour, Logger: slog.New(slog.NewTextHandler(&written, nil))}, test.url(server))
			cache.Check(t.Context(), "sk1:check")

			h := cache.Health()
			if h.Reads != test.reads || h.Writes != test.writes || !strings.Contains(h.Error, test.want) || (h.Error == "") != (test.want == "") {
				t.Errorf("the health is %+v", h)
			}
			lines := strings.Count(written.String(), "\n")
			if test.want == "" {
				test.want = "redis works"
			}
			if lines != 1 || !strings.Contains(written.String(), test.want) {
				t.Errorf("the log is\n%s", written.String())
			}
			if strings.Contains(written.String()+h.Error, "hunter2") {
				t.Errorf("it has the password: %s %s", written.String(), h.Error)
			}
		})
	}
}

func TestAServerThatIsHaltedIsUnreachable(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t)
	cache := newCache(t, redis.Options{Timeout: 50 * time.Millisecond, Cooldown: time.Millisecond}, server.URL())
	awaitAnswer(t, cache)
	server.Pause()
	began := time.Now()
	eventually(t, "it is noticed", func() bool {
		cache.Check(t.Context(), "sk1:check")
		h := cache.Health()
		return h.Condition == redis.Unreachable && h.Error == "timeout" && !h.Since.Before(began)
	})
	server.Resume()
	eventually(t, "so is the end", func() bool {
		cache.Check(t.Context(), "sk1:check")
		h := cache.Health()
		return h.Condition == redis.OK && h.Error == "" && h.Reads == redis.OK && h.Writes == redis.OK
	})
}

// TestAReplicaIsReadStill has a server become a read-only replica, as after a
// failover: what it has is still read, it is not asked to write all the time, and
// when it is a master again it is written to.
func TestAReplicaIsReadStill(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t)
	var log syncBuffer
	cache := newCache(t, redis.Options{Cooldown: 100 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))}, server.URL())
	awaitAnswer(t, cache)
	replicate := func(host, port string) {
		t.Helper()
		if err := client(t, server.URL()).Do(t.Context(), "REPLICAOF", host, port).Err(); err != nil {
			t.Fatal(err)
		}
	}
	replicate("127.0.0.1", "1")
	set := func() error { return cache.Set(t.Context(), "k", []byte("v"), time.Hour) }
	eventually(t, "writes are left alone", func() bool { return errors.Is(set(), redis.ErrUnavailable) })
	for range 10 {
		wantValue(t, cache, "k", "v")
		_ = set()
	}
	h := cache.Health()
	if h.Condition != redis.Failing || h.Reads != redis.OK || h.Writes != redis.Failing || !strings.HasPrefix(h.Error, "READONLY") {
		t.Errorf("the health is %+v", h)
	}
	replicate("NO", "ONE")
	eventually(t, "it is written to again", func() bool { return set() == nil })
	if h := cache.Health(); h.Condition != redis.OK || h.Error != "" {
		t.Errorf("the health is %+v", h)
	}
	if text := log.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "calls=writes") || !strings.Contains(text, "works again") {
		t.Errorf("the log is\n%s", text)
	}
}

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
		_ = ask(t.Context(), cache)
		_ = ask(t.Context(), patient)
	}
	if got := patient.State(); got != redis.StateOpen {
		t.Errorf("after three failures it is %q", got)
	}
	eventually(t, "one call may try again", func() bool { return cache.State() == redis.StateHalfOpen })
}
