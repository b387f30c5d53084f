package redis_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

func TestAnOpenBreakerKeepsEverybodyAway(t *testing.T) {
	t.Parallel()
	server := newMute(t)
	close(server.hangUp)
	cache := newCache(t, redis.Options{Cooldown: time.Hour}, server.url)
	for range 3 {
		if err := ask(t.Context(), cache); err == nil || errors.Is(err, redis.ErrUnavailable) {
			t.Fatalf("a mute server gives %v", err)
		}
	}
	var callers sync.WaitGroup
	for range 100 {
		callers.Go(func() {
			if _, err := cache.Get(t.Context(), "k"); !errors.Is(err, redis.ErrUnavailable) {
				t.Errorf("the call gives %v, want %v", err, redis.ErrUnavailable)
			}
		})
	}
	callers.Wait()
	if got := server.dials.Load(); got != 3 {
		t.Errorf("the server was dialled %d times, want 3", got)
	}
}

func TestOneCallTriesAgainAfterTheCooldown(t *testing.T) {
	t.Parallel()
	server := newMute(t)
	cache := newCache(t, redis.Options{Timeout: 20 * time.Second, Cooldown: time.Millisecond}, server.url)
	for range 3 {
		failed := make(chan error, 1)
		go func() { failed <- ask(t.Context(), cache) }()
		server.hangUp <- struct{}{}
		if err := <-failed; err == nil {
			t.Fatal("a server that hangs up has answered")
		}
	}

	// The breaker is open, or has cooled down by now; then one call goes
	// through, and waits for the server, which keeps silent.
	probe := make(chan error, 1)
	go func() {
		for {
			if err := ask(t.Context(), cache); !errors.Is(err, redis.ErrUnavailable) {
				probe <- err
				return
			}
		}
	}()
	eventually(t, "one call tries again", func() bool { return server.dials.Load() == 4 })
	for range 100 {
		if err := ask(t.Context(), cache); !errors.Is(err, redis.ErrUnavailable) {
			t.Fatalf("beside the one that tries, a call gives %v, want %v", err, redis.ErrUnavailable)
		}
	}
	close(server.hangUp)
	if err := <-probe; err == nil {
		t.Error("a server that hangs up has answered")
	}
}

// TestOnePauseIsOneFailure has ten calls fail that were all under way.
func TestOnePauseIsOneFailure(t *testing.T) {
	t.Parallel()
	server := newMute(t)
	cache := newCache(t, redis.Options{Timeout: 20 * time.Second, Cooldown: time.Hour}, server.url)
	const callers = 10
	var paused sync.WaitGroup
	for range callers {
		paused.Go(func() {
			if err := ask(t.Context(), cache); err == nil || errors.Is(err, redis.ErrUnavailable) {
				t.Errorf("a mute server gives %v", err)
			}
		})
	}
	eventually(t, "all calls wait", func() bool { return server.dials.Load() == callers })
	close(server.hangUp)
	paused.Wait()
	for n := range 2 {
		if state := cache.State(); state != redis.StateClosed {
			t.Errorf("after %d more failures the breaker is %s", n, state)
		}
		_ = ask(t.Context(), cache)
	}
	if state := cache.State(); state != redis.StateOpen {
		t.Errorf("after the third failure in a row the breaker is %s", state)
	}
}

func TestTheLogSaysWhenRedisGoesAndComesBack(t *testing.T) {
	t.Parallel()
	server := newMute(t)
	close(server.hangUp)
	var log syncBuffer
	cache := newCache(t, redis.Options{
		Cooldown: time.Millisecond,
		Logger:   slog.New(slog.NewTextHandler(&log, nil)),
	}, server.url)
	// Far more failures than it takes: the log must not repeat itself.
	eventually(t, "ten dials", func() bool {
		_ = ask(t.Context(), cache)
		return server.dials.Load() >= 10
	})
	if got := strings.Count(log.String(), "redis does not answer"); got != 1 || strings.Contains(log.String(), `error=""`) {
		t.Errorf("the log says %d times that Redis is away, want once, with the reason:\n%s", got, log.String())
	}
	server.obey.Store(true)
	eventually(t, "an answer", func() bool { return ask(t.Context(), cache) == nil })
	if got := strings.Count(log.String(), "redis works again"); got != 1 {
		t.Errorf("the log says %d times that Redis is back, want once:\n%s", got, log.String())
	}
}

// mute is a server that accepts connections and says nothing. It ends one for
// each value in hangUp, and every one when that is closed.
type mute struct {
	url    string
	dials  atomic.Int64
	hangUp chan struct{}
	// obey makes it answer that it has no value instead.
	obey atomic.Bool
}

func newMute(t *testing.T) *mute {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &mute{url: "redis://" + listener.Addr().String(), hangUp: make(chan struct{}, 3)}
	var serving sync.WaitGroup
	ended := make(chan struct{})
	t.Cleanup(func() {
		_ = listener.Close()
		close(ended)
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			m.dials.Add(1)
			serving.Go(func() {
				defer conn.Close()
				if m.obey.Load() {
					answer(conn, func(command string) string {
						if strings.Contains(command, "get") {
							return "$-1"
						}
						return "-ERR unknown command"
					})
					return
				}
				select {
				case <-m.hangUp:
				case <-ended:
				}
			})
		}
	})
	return m
}

// answer answers what a client says until it goes.
func answer(conn net.Conn, reply func(command string) string) {
	command := make([]byte, 4096)
	for {
		n, err := conn.Read(command)
		if err != nil {
			return
		}
		if _, err := conn.Write([]byte(reply(string(command[:n])) + "\r\n")); err != nil {
			return
		}
	}
}

type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
