package caddymodule

import (
	"context"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/admin/graphql"
	"github.com/lumio-vision/caddy-system-keys/admin/page"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/internal/session"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func init() {
	caddy.RegisterModule(new(Admin))
}

// Admin answers the admin plane, by which system keys are minted, listed and
// revoked, and the audit log is read. Every other request is handed on.
//
// Path | What
// -----|-----
// `/v1/admin/system-keys` | REST API of keys
// `/v1/admin/audit-log` | REST API of the audit log
// `/v1/gql` | The same by GraphQL
// `/v1/admin/system-keys/openapi.json` | Description of the REST API
// `/v1/admin/system-keys/schema.graphql` | Schema of the GraphQL API
// `/system` | The System page, for browsers
// `/api/system-keys` | What the page calls
// `/.well-known/lumio-keys.json` | Public keys of the assertions that upstreams get
//
// A caller presents a system key, or is a person by a JWT or by another handler's
// word. Each needs the permission for the call (`system-keys:read`,
// `system-keys:create`, `system-keys:delete`, `audit-log:read`; `admin:access` for
// the page, beside the others) or is a system
// admin, and nobody but a system admin grants what they do not hold.
type Admin struct {
	// The path of the System page, or `off`. The page asks for an admin's key once
	// and gives the browser a session of eight hours. Default: `/system`.
	UI string `json:"ui,omitempty"`

	// JSON Web Tokens of people, sent as `Authorization: Bearer lm_` followed by
	// the token. None by default.
	JWT *JWT `json:"jwt,omitempty"`

	// Trust the user that an earlier handler, such as `basic_auth`, has let
	// through. Off by default.
	TrustAuthUser *TrustAuthUser `json:"trust_auth_user,omitempty"`

	// The hosts, without port, under which the admin plane is served; others get
	// 403. Keeps a page of another site from reaching it under a name of its own
	// (DNS rebinding). Default: any.
	AllowedHosts []string `json:"allowed_hosts,omitempty"`

	// Hand GraphQL documents on that have no field about system keys. A document
	// that has both is refused.
	GraphQLPassthrough bool `json:"graphql_passthrough,omitempty"`

	app     *App
	keys    *publicKeys
	tokens  *tokens
	handler *admin.Handler
}

// CaddyModule returns the Caddy module information.
func (*Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.system_keys_admin",
		New: func() caddy.Module { return new(Admin) },
	}
}

// Provision checks the settings and finds the app.
func (a *Admin) Provision(ctx caddy.Context) error {
	if err := a.check(); err != nil {
		return err
	}
	app, err := appOf(ctx)
	if err != nil {
		return err
	}
	a.app = app
	if a.TrustAuthUser != nil {
		app.onStart(func(*caddy.Replacer) error { return a.TrustAuthUser.checkMaps(ctx) })
	}
	a.keys = &publicKeys{app: app, refuser: newRefuser(ctx.Slogger())}
	auditor := newAuditor(app)
	config := admin.Config{
		Service: func(ctx context.Context) (*admin.Service, error) {
			live, err := app.live(ctx)
			if err != nil {
				return nil, err
			}
			select {
			case <-live.Follower.Ready():
				return serviceOn(live), nil
			default: // before the first turn nothing tells an old primary from the right one
				return nil, verify.ErrNoLease
			}
		},
		Identities: a.identities(auditor),
		Describe:   auditRequest,
		Denied: func(record store.AuditRecord) {
			if w := auditor.writer(); w != nil {
				w.Deny(record)
			}
		},
		Now:                time.Now, //nolint:forbidigo // the real clock is wired here
		Logger:             ctx.Slogger(),
		AllowedHosts:       a.AllowedHosts,
		GraphQLPassthrough: a.GraphQLPassthrough,
		Page:               a.page(),
		ForwardedTLS:       forwardedTLS,
	}
	surfaces := []admin.Surface{graphql.New(config)}
	if config.Page != "" {
		surfaces = append(surfaces, page.New(config))
	}
	a.handler = admin.NewHandler(config, surfaces...)
	return nil
}

// identities says who may be an admin.
func (a *Admin) identities(auditor *auditor) admin.Identities {
	identities := admin.Identities{
		Admit:    a.app.admit,
		Earlier:  announced,
		Announce: announce,
		Refused: func(r *http.Request, d *gate.Decision) {
			auditor.denied(r, d, d.Refusal.Status)
			tellRefusal(r, d.Refusal.Reason)
		},
	}
	if a.JWT != nil {
		a.tokens = &tokens{app: a.app}
		a.app.onStart(func(repl *caddy.Replacer) error { return a.tokens.start(a.JWT, repl) })
		identities.Token = a.tokens.verify
	}
	if a.TrustAuthUser != nil {
		identities.Trusted = a.TrustAuthUser.person
	}
	return identities
}

// Service returns the rules of the admin plane for a program that runs the app.
func (a *App) Service(ctx context.Context) (*admin.Service, error) {
	live, err := a.live(ctx)
	if err != nil {
		return nil, err
	}
	return serviceOn(live), nil
}

// serviceOn puts the rules of the admin plane on a live engine.
func serviceOn(live *engine.Live) *admin.Service {
	now := time.Now //nolint:forbidigo // the real clock is wired here
	return &admin.Service{
		Store:   live.Store,
		Minter:  live.Minter,
		Hash:    live.Slots.Hash,
		Forget:  live.Verifier.Forget,
		Revoker: timedRevoker{live.Revoker, now},
		Sealer:  live.Sealer,
		Now:     now,
	}
}

// timedRevoker measures how long revocations take to be true everywhere. Those
// that are not waited for to the end are not measured.
type timedRevoker struct {
	admin.Revoker
	now func() time.Time
}

// Wait implements [admin.Revoker].
func (r timedRevoker) Wait(
	ctx context.Context, key store.ID, committed time.Time, watch func(coherence.Report),
) (report coherence.Report, err error) {
	ctx, span := observe.Start(ctx, "wait for instances")
	defer func() { observe.End(span, err) }()
	if report, err = r.Revoker.Wait(ctx, key, committed, watch); err == nil {
		measured.Revoked(r.now().Sub(committed))
	}
	return report, err
}

// ServeHTTP implements [caddyhttp.MiddlewareHandler].
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if a.keys.asked(r) {
		a.keys.serve(w, r)
		return nil
	}
	if !a.handler.Owns(r.URL.Path) {
		session.Strip(r.Header)
		return next.ServeHTTP(w, r)
	}
	return a.handler.Serve(w, r, func(w http.ResponseWriter, r *http.Request) error {
		session.Strip(r.Header)
		return next.ServeHTTP(w, r)
	})
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Admin)(nil)
	_ caddyhttp.MiddlewareHandler = (*Admin)(nil)
	_ admin.Revoker               = timedRevoker{}
)
