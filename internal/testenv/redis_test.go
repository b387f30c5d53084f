package testenv_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

func TestRedisURLIsPrivate(t *testing.T) {
	t.Parallel()
	one, two := dial(t, testenv.RedisURL(t)), dial(t, testenv.RedisURL(t))
	if err := one.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got := one.DBSize(t.Context()).Val(); got != 1 {
		t.Errorf("the first database has %d keys, want 1", got)
	}
	if err := two.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("the second database has the key of the first: %v", err)
	}
}

func TestRedisURLElsewhere(t *testing.T) {
	t.Setenv("SYSTEM_KEYS_TEST_REDIS", "redis://cache.example")
	if got := testenv.RedisURL(t); got != "redis://cache.example" {
		t.Errorf("RedisURL is %s", got)
	}
}

func TestRedisForgetsWhenItIsRestarted(t *testing.T) {
	t.Parallel()
	for name, renew := range map[string]func(*testenv.Redis){
		"restarted": (*testenv.Redis).Restart,
		"flushed":   (*testenv.Redis).FlushAll,
		"killed":    func(r *testenv.Redis) { r.Kill(); r.Start() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.StartRedis(t)
			client := dial(t, server.URL())
			if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			renew(server)
			if err := client.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
				t.Errorf("the key is still there, or nobody answers: %v", err)
			}
		})
	}
}

func TestRedisRefusesWhenKilled(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t)
	client := dial(t, server.URL())
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	server.Kill()
	if err := client.Ping(t.Context()).Err(); err == nil {
		t.Error("a killed server answered")
	}
}

func TestRedisAnswersAfterAPause(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t)
	client := dial(t, server.URL())
	server.Pause()
	answer := make(chan error, 1)
	go func() { answer <- client.Ping(t.Context()).Err() }()
	select {
	case err := <-answer:
		t.Errorf("a paused server answered: %v", err)
	case <-shortly():
	}
	server.Resume()
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

func TestRedisWithAPassword(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t, testenv.Setting("requirepass", "hunter2"))
	for _, url := range []string{server.URL(), server.SocketURL()} {
		if err := dial(t, url).Ping(t.Context()).Err(); err != nil {
			t.Errorf("with the password: %v", err)
		}
	}
	if err := dial(t, "redis://"+server.Addr()).Ping(t.Context()).Err(); err == nil {
		t.Error("let in without the password")
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	got := fatal(func(tb testing.TB) { testenv.StartRedis(tb) })
	if want := "apt-get install redis-server"; !strings.Contains(got, want) {
		t.Errorf("the test fails with %q, want %q in it", got, want)
	}
}

func dial(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// fatal returns the message with which f fails its test.
func fatal(f func(tb testing.TB)) string {
	failed := &failing{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(failed)
	}()
	<-done
	return failed.message
}

type failing struct {
	testing.TB
	message string
}

func (*failing) Helper()        {}
func (*failing) Cleanup(func()) {}
func (f *failing) Fatalf(format string, a ...any) {
	f.message = fmt.Sprintf(format, a...)
	runtime.Goexit()
}
