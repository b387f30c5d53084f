// Package adminplane is the handler of the admin plane: where its paths are, and whom it takes
// for an admin. Package admin does the rest.
package adminplane

import (
	"context"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/admin/graphql"
	"github.com/lumio-vision/caddy-system-keys/admin/page"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/answer"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/caller"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/request"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/signing"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/jwtauth"
	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/internal/session"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func init() {
	caddy.RegisterModule(new(Admin))
}

// Admin serves the admin plane, which mints, lists and revokes system keys, and shows the
// audit log. Every other request is handed on.
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
// A caller presents a system key, or is a person whom a JWT or an earlier handler
// identifies. A caller needs the permission for the call (`system-keys:read`,
// `system-keys:create`, `system-keys:delete`, `audit-log:read`; `system-keys:rotate` for a
// key that rotates itself; the page also needs `admin:access`) or must be a system admin. Only a system admin may grant a permission
// that they do not hold.
type Admin struct {
	// The path of the System page, or `off`. The page asks for an admin's key once
	// and gives the browser a session of eight hours. Default: `/system`.
	UI string `json:"ui,omitempty"`

	// The path below which everything is served, the page too, such as `/lumio`. A
	// prefix that an earlier handler takes away (`handle_path`, `uri strip_prefix`) is
	// found without it: leave it out then. Default: the root.
	Base string `json:"base,omitempty"`

	// JSON Web Tokens of people, sent as `Authorization: Bearer lm_` followed by
	// the token. None by default.
	JWT *JWT `json:"jwt,omitempty"`

	// Trust the user that an earlier handler, such as `basic_auth`, has let
	// through. Off by default.
	TrustAuthUser *TrustAuthUser `json:"trust_auth_user,omitempty"`

	// The hosts, without port, under which the admin plane is served. Others get 403.
	// This keeps a page of another site from reaching it under that site's own name
	// (DNS rebinding). Default: any.
	AllowedHosts []string `json:"allowed_hosts,omitempty"`

	// Hand GraphQL documents on that have no field about system keys. A document
	// that has both is refused.
	GraphQLPassthrough bool `json:"graphql_passthrough,omitempty"`

	app      *app.App
	refuser  *answer.Refuser
	config   admin.Config
	owner    *admin.Handler            // knows which paths are ours
	mounts   sync.Mutex                // guards handlers
	handlers map[string]*admin.Handler // by the prefix that was taken away, in small letters
}

// maxMounts is how many prefixes there are handlers for. With `handle_path` there is one.
const maxMounts = 8

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
	var err error
	if a.app, err = app.Of(ctx); err != nil {
		return err
	}
	if a.TrustAuthUser != nil {
		a.app.WhenStarted(func(*caddy.Replacer, app.Signers) error { return a.TrustAuthUser.checkMaps(ctx) })
	}
	a.refuser = answer.NewRefuser(ctx.Slogger())
	a.config = admin.Config{
		Service: func(ctx context.Context) (*admin.Service, error) {
			live, err := a.app.Live(ctx)
			if err != nil {
				return nil, err
			}
			select {
			case <-live.Follower.Ready():
				return Service(live), nil
			default: // until the first sync this may be the store of an old primary
				return nil, verify.ErrNoLease
			}
		},
		Identities:         a.identities(),
		Describe:           request.ForAudit,
		Denied:             a.app.RecordDeniedCall,
		Now:                time.Now, //nolint:forbidigo // the real clock is wired here
		Logger:             ctx.Slogger(),
		AllowedHosts:       a.AllowedHosts,
		GraphQLPassthrough: a.GraphQLPassthrough,
		Page:               a.page(),
		Base:               a.Base,
		ForwardedTLS:       forwardedTLS,
	}
	a.handlers = make(map[string]*admin.Handler)
	a.owner = a.handler("")
	return nil
}

// handler returns the handler for requests from whose path this prefix was taken away. Caddy
// takes a prefix away in any case of its letters, and the spelling that comes first counts for
// all. There are few handlers: where clients can choose the prefix, the later ones get the
// links of a page at the root.
func (a *Admin) handler(prefix string) *admin.Handler {
	a.mounts.Lock()
	defer a.mounts.Unlock()
	folded := strings.ToLower(prefix)
	if h := a.handlers[folded]; h != nil {
		return h
	}
	if len(a.handlers) >= maxMounts {
		return a.owner
	}
	config := a.config
	config.Mount = prefix + config.Base
	surfaces := []admin.Surface{graphql.New(config)}
	if config.Page != "" {
		surfaces = append(surfaces, page.New(config))
	}
	a.handlers[folded] = admin.NewHandler(config, surfaces...)
	return a.handlers[folded]
}

// takenAway returns the prefix that earlier handlers have taken away from the path of a
// request. It returns nothing if they have changed the path in another way, and if somebody
// could read the prefix as something else, such as the host in "//host/system".
func takenAway(r *http.Request) string {
	sent, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok {
		return ""
	}
	prefix, ok := strings.CutSuffix(sent.URL.EscapedPath(), r.URL.EscapedPath())
	if !ok || !plainPath.MatchString(prefix) || path.Clean(prefix) != prefix {
		return ""
	}
	return prefix
}

// identities returns the ways in which a request can show who is its admin.
func (a *Admin) identities() admin.Identities {
	identities := admin.Identities{
		Admit:   a.app.Admit,
		Earlier: caller.Identity,
		Announce: func(r *http.Request, identity *verify.Identity) {
			(&caller.Caller{Decision: gate.Decision{Identity: identity}}).Announce(r)
		},
		Refused: func(r *http.Request, d *gate.Decision) {
			a.app.RecordDenial(r, d, d.Refusal.Status)
			request.LogRefusal(r, d.Refusal.Reason, d.KeyID)
		},
	}
	if a.JWT != nil {
		a.app.WhenStarted(a.JWT.start)
		identities.Token = func(ctx context.Context, token string) (*jwtauth.Claims, error) {
			if _, err := a.app.Running(ctx); err != nil { // before, there is no verifier
				return nil, err
			}
			return a.JWT.verifier.Verify(ctx, token)
		}
	}
	if a.TrustAuthUser != nil {
		identities.Trusted = a.TrustAuthUser.person
	}
	return identities
}

// Service makes the service behind the admin plane on a live engine.
func Service(live *engine.Live) *admin.Service {
	now := time.Now //nolint:forbidigo // the real clock is wired here
	return &admin.Service{
		Store:   live.Store,
		Minter:  live.Minter,
		Hash:    live.Slots.Hash,
		Forget:  live.Verifier.Forget,
		Revoker: timedRevoker{live.Revoker, now},
		Sealer:  live.Sealer,
		Asked:   live.Recorder.Ask,
		Now:     now,
	}
}

// timedRevoker measures how long it takes until no instance accepts a revoked key. It does
// not measure revocations whose caller stops waiting before.
type timedRevoker struct {
	admin.Revoker
	now func() time.Time
}

// Wait implements [admin.Revoker].
func (r timedRevoker) Wait(
	ctx context.Context, keys []store.ID, committed time.Time, watch func(coherence.Report),
) (report coherence.Report, err error) {
	ctx, span := observe.Start(ctx, "wait for instances")
	defer func() { observe.End(span, err) }()
	if report, err = r.Revoker.Wait(ctx, keys, committed, watch); err == nil {
		app.Meter.Revoked(r.now().Sub(committed))
	}
	return report, err
}

// ServeHTTP implements [caddyhttp.MiddlewareHandler].
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	handOn := func(w http.ResponseWriter, r *http.Request) error {
		session.Strip(r.Header)
		return next.ServeHTTP(w, r)
	}
	if signing.ServePublicKeys(w, r, a.app, a.refuser) {
		return nil
	}
	if a.owner.Owns(r.URL.Path) {
		return a.handler(takenAway(r)).Serve(w, r, handOn)
	}
	return handOn(w, r)
}

// forwardedTLS reports whether a trusted proxy (trusted_proxies) has received the request
// over TLS.
func forwardedTLS(r *http.Request) bool {
	return request.FromTrustedProxy(r) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Admin)(nil)
	_ caddyhttp.MiddlewareHandler = (*Admin)(nil)
	_ admin.Revoker               = timedRevoker{}
)
