package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/internal/engine"
)

// retired are the engines that no configuration holds any more, and that have
// requests in flight.
var retired = retirement{engines: make(map[*engine.Engine]struct{})}

type retirement struct {
	mu      sync.Mutex
	engines map[*engine.Engine]struct{}
}

// linger is how long an engine that was replaced stays: requests that came just
// before may not have reached it yet.
const linger = 2 * time.Second

// retire closes the engine, at once or when its last request has ended.
func (t *retirement) retire(e *engine.Engine) error {
	if caddy.Exiting() {
		return errors.Join(e.Close(), t.closeAll())
	}
	if e.Idle() && !replaced() {
		return e.Close()
	}
	t.mu.Lock()
	t.engines[e] = struct{}{}
	t.mu.Unlock()
	go func() {
		if replaced() {
			time.Sleep(linger)
		}
		e.Drain(context.Background())
		if err := e.Close(); err != nil {
			e.Logger().Error("an engine was not closed cleanly", slog.Any("error", err))
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.engines, e)
	}()
	return nil
}

// closeAll ends what is left when the process ends. Caddy has waited for
// `grace_period` by then, so what is in flight still is cut.
func (t *retirement) closeAll() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	errs := make(chan error, len(t.engines))
	for e := range t.engines {
		go func() { errs <- e.Close() }()
	}
	all := make([]error, 0, len(t.engines))
	for range t.engines {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// replaced reports whether there is another engine, of a newer configuration.
func replaced() bool {
	n := 0
	engines.Range(func(any, any) bool {
		n++
		return true
	})
	return n > 0
}

// instanceName says which process this is, for people.
func instanceName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s:%d", host, os.Getpid())
}
