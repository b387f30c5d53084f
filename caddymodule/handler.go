package caddymodule

import (
	"cmp"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/answer"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/caller"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/request"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/signing"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// DefaultHeaderPrefix is the prefix that a handler owns by default.
const DefaultHeaderPrefix = "X-Lumio-"

// Handler lets requests pass that carry a live system key
// (`Authorization: Bearer lm_sys_…`), and tells the upstream whose it is:
//
// Header | Description
// -------|------------
// `X-Lumio-Auth-Type` | `system_key`
// `X-Lumio-Key-Id` | The key's public id, a UUID
// `X-Lumio-Key-Label` | Its label in UTF-8; `%` and everything but printable ASCII is percent-encoded
// `X-Lumio-Permissions` | Its permissions, sorted, separated by commas
// `X-Lumio-Assertion` | With `assertion`: all of this, signed
//
// An upstream may say in its answer which permissions it has asked of the key, as
// `X-Lumio-Required: bots:read,bots:write`. The field is removed from the answer, and shown in
// the activity of the key, as those of `require` are.
//
// Header fields that a client sends under the same prefix are removed from every
// request, in any spelling. They can neither reach the upstream nor remove the fields
// that are set here.
//
// After a request was let through, these placeholders are available:
//
// Placeholder | Description
// ------------|-------------
// `{http.auth.user.id}` | The key's id
// `{http.auth.user.label}` | The key's label
// `{http.auth.user.permissions}` | Its permissions, separated by commas
// `{http.auth.user.type}` | `system_key`
//
// Access logs have them as `user_id` and `system_key_label`. If a request was refused or
// cut, `system_key_refused` says why in one word, `system_key_id` has the key's id if it is
// known, and `uuid` is the `request_id` of the answer and of the audit log.
//
// A request with a system key in the wrong place (another header field, the name of
// one, a cookie, the query, Basic credentials) is refused with 400, with `passthrough`
// too, and the answer names the place. The path and the body are not searched. The
// encoder `redact_system_keys` takes keys out of logs.
//
// A key may have networks. From elsewhere it is refused with 403. The address is that of
// `{client_ip}`, so set `trusted_proxies` behind another proxy.
//
// A refused request is an error with status 400, 401, 403, 405, 429 or 503, which
// error routes can handle. Without error routes it is answered with a JSON
// object.
//
// A request whose key is revoked or expires while it is in flight is answered here,
// with 401, and error routes do not run. If a part of the answer was sent, the
// connection ends.
//
// The upstream learns who calls only while the request can be cut. When the next
// handler has ended, the headers are removed; when it has failed, the placeholders
// too, so that error routes see an anonymous request (the access log still names the
// key). A `system_key_auth` in an error route verifies the key anew. If it refuses the
// request, it answers itself.
type Handler struct {
	// Let requests without a system key go on, stripped of any identity headers
	// that the client made up. Requests with a bad key are still refused.
	Passthrough bool `json:"passthrough,omitempty"`

	// Permissions that a key must hold, all of them. Otherwise the request is
	// refused with 403. Not with `passthrough`: give the stricter route a handler
	// of its own.
	Require []string `json:"require,omitempty"`

	// The prefix of the headers that the upstream receives. This handler owns the
	// prefix. Letters, digits and hyphens, at least two parts. Default: `X-Lumio-`.
	HeaderPrefix string `json:"header_prefix,omitempty"`

	// Forward the `Authorization` header too. By default it is removed.
	KeepCredential bool `json:"keep_credential,omitempty"`

	// Sign who called, so that the upstream can verify it. Off by default. In any
	// case `GET /.well-known/lumio-keys.json` is answered with the public keys,
	// before any check.
	Assertion *signing.Assertion `json:"assertion,omitempty"`

	// How many bad keys may come from one client address. Beyond that they are
	// answered with 429. By default, beyond 100 in a minute, they get the same 401 a
	// quarter of a second late, with `Retry-After`.
	FailureLimit *FailureLimit `json:"failure_limit,omitempty"`

	app      *app.App
	gate     *gate.Gate
	signer   *signing.Signer
	refuser  *answer.Refuser
	failures *failures
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.system_key_auth",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision checks the settings and finds the app.
func (h *Handler) Provision(ctx caddy.Context) (err error) {
	if h.app, err = app.Of(ctx); err != nil {
		return err
	}
	if h.gate, err = h.newGate(); err != nil {
		return err
	}
	if h.Assertion != nil {
		h.app.WhenStarted(h.signer.Start)
	}
	server, _ := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server != nil { // else requests get contexts of their own
		if err := checkReached(ctx, server); err != nil {
			return err
		}
		h.app.WatchConnections(server)
	}
	h.refuser = answer.NewRefuser(ctx.Slogger())
	h.failures, err = newFailures(server, h.FailureLimit)
	return err
}

// Cleanup gives back what the handler shares with others.
func (h *Handler) Cleanup() error { return h.failures.release() }

// newGate checks the settings and makes their gate, and the signer for it.
func (h *Handler) newGate() (*gate.Gate, error) {
	if _, err := store.CleanPermissions(h.Require); err != nil {
		return nil, fmt.Errorf("require: %w", err)
	}
	if h.Assertion != nil {
		if err := h.Assertion.Check(); err != nil {
			return nil, err
		}
	}
	h.signer = signing.New(h.app, h.headerPrefix(), h.Assertion)
	return gate.New(gate.Config{
		Prefix:         h.headerPrefix(),
		Require:        h.Require,
		Passthrough:    h.Passthrough,
		KeepCredential: h.KeepCredential,
		Assert:         h.signer.Assert,
	})
}

func (h *Handler) headerPrefix() string { return cmp.Or(h.HeaderPrefix, DefaultHeaderPrefix) }

// ServeHTTP implements [caddyhttp.MiddlewareHandler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if signing.ServePublicKeys(w, r, h.app, h.refuser) {
		return nil
	}
	vars := request.Vars(r)
	earlier := caller.In(vars)
	if refusal := earlier.FinalRefusal(); refusal != nil {
		h.refuser.Answer(w, r, refusal)
		return nil
	}
	pass := &passage{app: h.app, gate: h.gate, w: w, r: r}
	pass.inFlight.Client, _ = vars[caddyhttp.ClientIPVarKey].(string)
	defer pass.inFlight.Leave()
	replaced := earlier.RestoreKey(r)
	d := pass.decide(earlier.IdentityInFlight())
	caller.RestoreCredential(r, replaced)
	if d.Refusal != nil {
		return h.refuse(w, r, &pass.caller, earlier)
	}
	allowed := d.Allowed()
	app.Meter.Decided(allowed)
	switch allowed {
	case gate.AllowedKey:
		pass.caller.Announce(r)
	case gate.AllowedEarlier: // the earlier handler has the request in flight
		earlier.Announce(r)
		defer h.gate.Withdraw(r)
		return next.ServeHTTP(w, r)
	default:
		return next.ServeHTTP(w, r)
	}
	refusal, err := pass.serve(next)
	if refusal != nil {
		// Error routes do not get it. One of them may be a proxy, and the upstream's
		// answer would hide from the client that its key has ended.
		h.refuser.Answer(w, r, refusal)
		return nil
	}
	return err
}

// refuse records and answers a refusal. Earlier is the caller that an earlier handler has
// announced, or nil.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, c, earlier *caller.Caller) error {
	refusal := h.failures.limit(r, c.Refusal)
	h.app.RecordDenial(r, &c.Decision, refusal.Status)
	app.Meter.Decided(refusal.Reason)
	request.LogRefusal(r, refusal.Reason, c.KeyID)
	if c.Key == "" && earlier != nil { // with a key, only that key counts
		c = earlier
	}
	c.KeepRefusal(r, refusal)
	return h.refuser.Refuse(w, r, refusal)
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
