package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/request"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Of finds the app of a configuration. It refuses a configuration without one: Caddy would
// make an app with the defaults, and its new and empty store would refuse every good key.
func Of(ctx caddy.Context) (*App, error) {
	module, err := ctx.AppIfConfigured("system_keys")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, ErrNotConfigured
	}
	if err != nil {
		return nil, fmt.Errorf("system_keys: %w", err)
	}
	return module.(*App), nil
}

// ErrNotConfigured says what a configuration without an app lacks.
var ErrNotConfigured = errors.New("system_keys is not configured, which says where the keys are: write `system_keys` into the block { } at the " +
	"top of the Caddyfile, or the app into the JSON (alone, it means a SQLite file in Caddy's data folder)")

// startGrace is how long a request waits for the app to start. Caddy starts apps in random
// order, so the first requests of a new configuration may come before the store is open.
const startGrace = 5 * time.Second

// Running returns the engine, or an error that gets the request a 503.
func (a *App) Running(ctx context.Context) (*engine.Engine, error) {
	if e := a.engine.Load(); e != nil {
		return e, nil
	}
	grace := time.NewTimer(startGrace)
	defer grace.Stop()
	select {
	case <-a.started:
		return a.engine.Load(), nil
	case <-grace.C:
	case <-ctx.Done():
	case <-a.lifetime.Done():
	}
	return nil, verify.Unavailable(verify.ReasonNotReady, engine.ErrNotReady)
}

// Live returns the parts of the engine if its store is open.
func (a *App) Live(ctx context.Context) (*engine.Live, error) {
	e, err := a.Running(ctx)
	if err != nil {
		return nil, err
	}
	return e.Live()
}

// Admit verifies a key for a request that no revocation will cut.
func (a *App) Admit(r *http.Request, key string) (store.ID, *verify.Identity, error) {
	e, err := a.Running(r.Context())
	if err != nil {
		return store.ID{}, nil, err
	}
	return e.Admit(r.Context(), key, request.ClientIP(r), nil)
}
