// Package control serves the state of this instance on Caddy's admin endpoint.
package control

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/answer"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	"github.com/lumio-vision/caddy-system-keys/internal/metrics"
)

func init() {
	caddy.RegisterModule(new(Control))
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
func (*Control) Provision(ctx caddy.Context) error { return app.RegisterMetrics(ctx) }

// Routes implements [caddy.AdminRouter].
func (c *Control) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "GET /system_keys/ready", Handler: caddy.AdminHandlerFunc(c.ready)},
		{Pattern: "GET /system_keys/status", Handler: caddy.AdminHandlerFunc(c.status)},
	}
}

// ready answers without any input or output, so that probes can call it often.
func (*Control) ready(w http.ResponseWriter, _ *http.Request) error {
	active := app.Active()
	if active == nil {
		return errNotConfigured
	}
	ready := active.State().Readiness()
	status := http.StatusOK
	if !ready.Ready {
		status = http.StatusServiceUnavailable
	}
	return answer.JSON(w, status, ready)
}

// progressTimeout bounds the store's answer to the question which instances there are.
const progressTimeout = 2 * time.Second

// status asks the store which instances there are, and Redis whether it is back.
func (*Control) status(w http.ResponseWriter, r *http.Request) error {
	active := app.Active()
	if active == nil {
		return errNotConfigured
	}
	now := time.Now() //nolint:forbidigo // the real clock is wired here
	ctx, cancel := context.WithTimeout(r.Context(), progressTimeout)
	defer cancel()
	active.CheckRedis(ctx)
	state := active.State()
	status := metrics.Status{Instance: state.Instance(now)}
	if state.Live != nil {
		progress, err := state.Live.Store.Progress(ctx, nil, nil)
		if err == nil {
			status.Servers = metrics.ServersOf(progress)
			status.Instance.Store.Answers = true
		} else {
			status.Instance.Store.Error = err.Error()
		}
	}
	return answer.JSON(w, http.StatusOK, status)
}

var errNotConfigured = caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("system_keys is not configured")}

// Interface guards.
var (
	_ caddy.Provisioner = (*Control)(nil)
	_ caddy.AdminRouter = (*Control)(nil)
)
