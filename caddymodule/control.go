package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

func init() {
	caddy.RegisterModule(new(Control))
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
func (*Control) Provision(ctx caddy.Context) error { return measured.register(ctx) }

// Routes implements [caddy.AdminRouter].
func (c *Control) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "GET /system_keys/ready", Handler: caddy.AdminHandlerFunc(c.ready)},
		{Pattern: "GET /system_keys/status", Handler: caddy.AdminHandlerFunc(c.status)},
	}
}

// Readiness says whether keys can be verified, and what is missing if not.
type Readiness struct {
	Ready   bool     `json:"ready"`
	Missing []string `json:"missing"`
}

func readyOf(live *engine.Live) Readiness {
	gaps := missing(live)
	if gaps == nil {
		gaps = []string{}
	}
	return Readiness{Ready: len(gaps) == 0, Missing: gaps}
}

func (*Control) ready(w http.ResponseWriter, _ *http.Request) error {
	app, err := configured()
	if err != nil {
		return err
	}
	ready := readyOf(liveOf(app.engine.Load()))
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
	answer := Status{Instance: new(instanceOf(e, now))}
	if live := liveOf(e); live != nil {
		progress, err := live.Store.Progress(ctx, store.ID{})
		if err == nil {
			answer.Servers = ServersOf(progress)
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

// Interface guards.
var (
	_ caddy.Provisioner = (*Control)(nil)
	_ caddy.AdminRouter = (*Control)(nil)
)
