package app

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/internal/metrics"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

// Meter counts what happens in this process. There is one, as there is one Caddy in a
// process, and it counts on over reloads. Each configuration has a registry of its own, in
// which the meter is registered.
var Meter = metrics.New(time.Now, activeState) //nolint:forbidigo // the real clock is wired here

// RegisterMetrics registers the metrics of a configuration. The app and the module of the
// admin endpoint both call it. The admin endpoint comes first, and stays if the app of a
// configuration cannot be loaded.
func RegisterMetrics(ctx caddy.Context) error {
	registry := ctx.GetMetricsRegistry()
	if registry == nil { // a context that is not Caddy's
		return nil
	}
	return Meter.Register(registry)
}

// activeState returns the state of the app that runs, whichever registry asks. After a
// reload that failed, Caddy's admin endpoint has the registry of a configuration that
// never ran: caddy.go replaces the endpoint before it provisions the apps.
func activeState() (metrics.State, bool) {
	app := Active()
	if app == nil {
		return metrics.State{}, false
	}
	return app.State(), true
}

// Active returns the app of the configuration that runs, or nil without one.
func Active() *App {
	module, err := caddy.ActiveContext().AppIfConfigured("system_keys")
	if err != nil {
		return nil
	}
	app, _ := module.(*App)
	return app
}

// State returns the state of this instance.
func (a *App) State() metrics.State {
	s := metrics.State{Name: instanceName()}
	e := a.engine.Load()
	if e == nil {
		return s
	}
	s.Failure = e.Failure()
	s.Live, _ = e.Live() // nil with an error
	if cache := a.redis(); cache != nil {
		h := cache.Health()
		s.Redis = &metrics.Redis{
			State: string(h.Condition), Since: h.Since.UTC(), Error: h.Error,
			Reads: string(h.Reads), Writes: string(h.Writes), Breaker: make(map[string]bool),
		}
		current := cache.State()
		for _, state := range []redis.State{redis.StateClosed, redis.StateHalfOpen, redis.StateOpen} {
			s.Redis.Breaker[string(state)] = state == current
		}
	}
	return s
}

// CheckRedis asks Redis whether it is back: nobody may have called it since it failed.
func (a *App) CheckRedis(ctx context.Context) {
	if cache := a.redis(); cache != nil && cache.Health().Condition != redis.OK {
		cache.Check(ctx, verify.ProbeAddress)
	}
}

// redis returns the cache in Redis, or nil if there is none.
func (a *App) redis() *redis.Cache {
	e := a.engine.Load()
	if e == nil {
		return nil
	}
	cache, _ := e.Proofs().(*redis.Cache)
	return cache
}

// instanceName returns a name of this process for people: host and process id.
func instanceName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s:%d", host, os.Getpid())
}
