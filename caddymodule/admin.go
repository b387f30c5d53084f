package caddymodule

import (
	"context"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
)

func init() {
	caddy.RegisterModule(new(Admin))
}

// Admin answers the REST API by which system keys are minted, listed and
// revoked, under `/v1/admin/system-keys`. Every other request is handed on.
//
// A caller presents a system key that is a system admin, or that holds the
// permission for the call: `system-keys:read`, `system-keys:create` or
// `system-keys:delete`.
type Admin struct {
	handler *admin.Handler
}

// CaddyModule returns the Caddy module information.
func (*Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.system_keys_admin",
		New: func() caddy.Module { return new(Admin) },
	}
}

// Provision finds the app.
func (a *Admin) Provision(ctx caddy.Context) error {
	app, err := appOf(ctx)
	if err != nil {
		return err
	}
	a.handler = admin.NewHandler(admin.Config{
		Service: func(ctx context.Context) (*admin.Service, error) {
			live, err := app.live(ctx)
			if err != nil {
				return nil, err
			}
			return serviceOn(live), nil
		},
		Verifier:  app,
		RequestID: requestID,
		Announce:  announce,
		Logger:    ctx.Slogger(),
	})
	return nil
}

// serviceOn puts the rules of the admin plane on a live engine.
func serviceOn(live *engine.Live) *admin.Service {
	return &admin.Service{
		Store:   live.Store,
		Minter:  live.Minter,
		Hash:    live.Slots.Hash,
		Forget:  live.Verifier.Forget,
		Revoker: live.Revoker,
		Sealer:  live.Sealer,
		Now:     time.Now, //nolint:forbidigo // the real clock is wired here
	}
}

// ServeHTTP implements [caddyhttp.MiddlewareHandler].
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !admin.Owns(r.URL.Path) {
		return next.ServeHTTP(w, r)
	}
	a.handler.ServeHTTP(w, r)
	return nil
}

// UnmarshalCaddyfile sets up the handler from a directive. Syntax:
//
//	system_keys_admin [<matcher>]
func (*Admin) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return eachOption(d, func(name string) error {
		return d.Errf("unrecognized subdirective %q", name)
	})
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Admin)(nil)
	_ caddyhttp.MiddlewareHandler = (*Admin)(nil)
	_ caddyfile.Unmarshaler       = (*Admin)(nil)
)
