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
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

func init() {
	caddy.RegisterModule(new(Control))
}

// measured is what this process has counted. There is one, as there is one Caddy
// in a process, and it counts on over reloads; each configuration has a registry
// of its own, in which it is entered.
var measured = metrics.New(time.Now, activeState) //nolint:forbidigo // the real clock is wired here

// registerMetrics enters the metrics in the registry of a configuration. The app and
// the route on the admin endpoint both do: the latter is there first, and stays when
// the app of a configuration cannot be loaded.
func registerMetrics(ctx caddy.Context) error {
	registry := ctx.GetMetricsRegistry()
	if registry == nil { // a context that is not Caddy's
		return nil
	}
	return measured.Register(registry)
}

// Control tells on Caddy's admin endpoint how this instance is:
//
// Route | Description
// ------|------------
// `GET /system_keys/ready` | 200 if keys can be verified: the store is open and the lease in force; else 503, and what is missing
// `GET /system_keys/status` | This instance, and all instances on the store as `caddy system-keys status --json` has them
//
// Both answer with JSON, with 404 where no system keys are configured, and hold
// nothing that is secret: whoever reaches the admin endpoint may read them.
type Control struct{}

// CaddyModule returns the Caddy module information.
func (*Control) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.system_keys",
		New: func() caddy.Module { return new(Control) },
	}
}

// Provision enters the metrics in the registry that the admin endpoint serves. It
// takes hold of nothing else: the endpoint is made before the apps are, and outlives
// a configuration that fails, so each request looks for the app that runs.
func (*Control) Provision(ctx caddy.Context) error { return registerMetrics(ctx) }

// Routes implements [caddy.AdminRouter].
func (c *Control) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "GET /system_keys/ready", Handler: caddy.AdminHandlerFunc(c.ready)},
		{Pattern: "GET /system_keys/status", Handler: caddy.AdminHandlerFunc(c.status)},
	}
}

func (*Control) ready(w http.ResponseWriter, _ *http.Request) error {
	app, err := configured()
	if err != nil {
		return err
	}
	ready := stateOf(app.engine.Load()).Readiness()
	status := http.StatusOK
	if !ready.Ready {
		status = http.StatusServiceUnavailable
	}
	return tell(w, status, ready)
}

// progressTimeout bounds the question to the store who the instances are.
const progressTimeout = 2 * time.Second

func (*Control) status(w http.ResponseWriter, r *http.Request) error {
	app, err := configured()
	if err != nil {
		return err
	}
	e := app.engine.Load()
	now := time.Now() //nolint:forbidigo // the real clock is wired here
	ctx, cancel := context.WithTimeout(r.Context(), progressTimeout)
	defer cancel()
	if cache := redisOf(e); cache != nil && cache.Health().Condition != redis.OK {
		cache.Check(ctx, verify.ProbeAddress) // nobody may have asked since it came back
	}
	state := stateOf(e)
	answer := metrics.Status{Instance: state.Instance(now)}
	if state.Live != nil {
		progress, err := state.Live.Store.Progress(ctx, store.ID{})
		if err == nil {
			answer.Servers = metrics.ServersOf(progress)
			answer.Instance.Store.Answers = true
		} else {
			answer.Instance.Store.Error = err.Error()
		}
	}
	return tell(w, http.StatusOK, answer)
}

// configured returns the app of the configuration that runs.
func configured() (*App, error) {
	if app := activeApp(); app != nil {
		return app, nil
	}
	return nil, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("system_keys is not configured")}
}

func tell(w http.ResponseWriter, status int, answer any) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(answer)
}

// activeState is what the instance is like, whichever registry asks: after a reload
// that failed Caddy's admin endpoint has that of a configuration that never ran
// (caddy.go, where the endpoint is replaced before apps are provisioned).
func activeState() (metrics.State, bool) {
	app := activeApp()
	if app == nil {
		return metrics.State{}, false
	}
	return stateOf(app.engine.Load()), true
}

// activeApp is the app of the configuration that runs, or nil without one.
func activeApp() *App {
	module, err := caddy.ActiveContext().AppIfConfigured("system_keys")
	if err != nil {
		return nil
	}
	app, _ := module.(*App)
	return app
}

// stateOf tells what an engine is like, which may be nil.
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
		now := cache.State()
		for _, state := range []redis.State{redis.StateClosed, redis.StateHalfOpen, redis.StateOpen} {
			s.Redis.Breaker[string(state)] = state == now
		}
	}
	return s
}

// instanceName says which process this is, for people.
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
