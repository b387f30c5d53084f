package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/metrics"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

func init() {
	caddy.RegisterModule(new(Control))
}

// meter counts what happens in this process. There is one, as there is one Caddy in a
// process, and it counts on over reloads. Each configuration has a registry of its own, in
// which the meter is registered.
var meter = metrics.New(time.Now, activeState) //nolint:forbidigo // the real clock is wired here

// registerMetrics registers the metrics of a configuration. The app and the module of the
// admin endpoint both call it. The admin endpoint comes first, and stays if the app of a
// configuration cannot be loaded.
func registerMetrics(ctx caddy.Context) error {
	registry := ctx.GetMetricsRegistry()
	if registry == nil { // a context that is not Caddy's
		return nil
	}
	return meter.Register(registry)
}

// Control serves the state of this instance on Caddy's admin endpoint:
//
// Route | Description
// ------|------------
// `GET /system_keys/ready` | 200 if keys can be verified: the store is open and the lease in force; else 503, and what is missing
// `GET /system_keys/status` | This instance, and all instances on the store as `caddy system-keys status --json` has them
//
// Both answer with JSON, or with 404 if no system keys are configured. The answers hold no
// secret, since every client of the admin endpoint may read them.
type Control struct{}

// CaddyModule returns the Caddy module information.
func (*Control) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.system_keys",
		New: func() caddy.Module { return new(Control) },
	}
}

// Provision registers the metrics in the registry that the admin endpoint serves. It keeps
// nothing else: Caddy makes the endpoint before the apps, and keeps the endpoint of a
// configuration that fails. So each request looks for the app that runs.
func (*Control) Provision(ctx caddy.Context) error { return registerMetrics(ctx) }

// Routes implements [caddy.AdminRouter].
func (c *Control) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "GET /system_keys/ready", Handler: caddy.AdminHandlerFunc(c.ready)},
		{Pattern: "GET /system_keys/status", Handler: caddy.AdminHandlerFunc(c.status)},
	}
}

// ready answers without any input or output, so that probes can call it often.
func (*Control) ready(w http.ResponseWriter, _ *http.Request) error {
	state, ok := activeState()
	if !ok {
		return errNotConfigured
	}
	ready := state.Readiness()
	status := http.StatusOK
	if !ready.Ready {
		status = http.StatusServiceUnavailable
	}
	return writeJSON(w, status, ready)
}

// progressTimeout bounds the store's answer to the question which instances there are.
const progressTimeout = 2 * time.Second

// status asks the store which instances there are, and Redis whether it is back.
func (*Control) status(w http.ResponseWriter, r *http.Request) error {
	app := activeApp()
	if app == nil {
		return errNotConfigured
	}
	e := app.engine.Load()
	now := time.Now() //nolint:forbidigo // the real clock is wired here
	ctx, cancel := context.WithTimeout(r.Context(), progressTimeout)
	defer cancel()
	if cache := redisOf(e); cache != nil && cache.Health().Condition != redis.OK {
		cache.Check(ctx, verify.ProbeAddress) // it may be back, and nobody may have called it since
	}
	state := stateOf(e)
	answer := metrics.Status{Instance: state.Instance(now)}
	if state.Live != nil {
		progress, err := state.Live.Store.Progress(ctx, nil, nil)
		if err == nil {
			answer.Servers = metrics.ServersOf(progress)
			answer.Instance.Store.Answers = true
		} else {
			answer.Instance.Store.Error = err.Error()
		}
	}
	return writeJSON(w, http.StatusOK, answer)
}

var errNotConfigured = caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("system_keys is not configured")}

func writeJSON(w http.ResponseWriter, status int, answer any) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(answer)
}

// activeState returns the state of the engine that runs, whichever registry asks. After a
// reload that failed, Caddy's admin endpoint has the registry of a configuration that
// never ran: caddy.go replaces the endpoint before it provisions the apps.
func activeState() (metrics.State, bool) {
	app := activeApp()
	if app == nil {
		return metrics.State{}, false
	}
	return stateOf(app.engine.Load()), true
}

// activeApp returns the app of the configuration that runs, or nil without one.
func activeApp() *App {
	module, err := caddy.ActiveContext().AppIfConfigured("system_keys")
	if err != nil {
		return nil
	}
	app, _ := module.(*App)
	return app
}

// stateOf returns the state of an engine, which may be nil.
func stateOf(e *engine.Engine) metrics.State {
	s := metrics.State{Name: instanceName()}
	if e == nil {
		return s
	}
	s.Failure = e.Failure()
	s.Live, _ = e.Live() // nil with an error
	if cache := redisOf(e); cache != nil {
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

// instanceName returns a name of this process for people: host and process id.
func instanceName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s:%d", host, os.Getpid())
}

// redisOf returns the cache in Redis, or nil if there is none.
func redisOf(e *engine.Engine) *redis.Cache {
	if e == nil {
		return nil
	}
	cache, _ := e.Proofs().(*redis.Cache)
	return cache
}

// Interface guards.
var (
	_ caddy.Provisioner = (*Control)(nil)
	_ caddy.AdminRouter = (*Control)(nil)
)
