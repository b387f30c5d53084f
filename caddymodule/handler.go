package caddymodule

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// DefaultHeaderPrefix is the prefix that a handler owns unless it is told
// another.
const DefaultHeaderPrefix = "X-Lumio-"

// Handler lets requests pass that carry a live system key
// (`Authorization: Bearer lm_sys_…`), and tells the upstream whose it is:
//
// Header | Description
// -------|------------
// `X-Lumio-Auth-Type` | `system_key`
// `X-Lumio-Key-Id` | The key's public id, a UUID
// `X-Lumio-Key-Label` | Its label; `%` and whatever is not printable ASCII is percent-encoded UTF-8
// `X-Lumio-Permissions` | Its permissions, sorted, separated by commas
// `X-Lumio-Assertion` | With `assertion`: all of this, signed
//
// Whatever a client sends under the same prefix is removed from every request,
// in any spelling, and can neither reach the upstream nor remove what is set
// here.
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
// Access logs carry them as `user_id` and `system_key_label`, and of a request that was
// refused or cut why, in one word, as `system_key_refused`.
//
// A request with a system key in the wrong place (another header field, the name of
// one, a cookie, the query, Basic credentials) is refused with 400, with `passthrough`
// too, and the answer names the place. The path is no such place, nor is the body. Logs
// are for the encoder `redact_system_keys`.
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
// key). A `system_key_auth` in an error route verifies the key anew, and answers by
// itself what it refuses.
type Handler struct {
	// Let requests without a system key go on, stripped of any identity headers
	// that the client made up. Requests with a key that is not good are refused
	// all the same.
	Passthrough bool `json:"passthrough,omitempty"`

	// Permissions that a key must hold, all of them, or the request is refused
	// with 403. Not with `passthrough`: give the stricter route a handler of its
	// own.
	Require []string `json:"require,omitempty"`

	// The prefix of the headers that the upstream receives, which this handler
	// owns. Letters, digits and hyphens, at least two parts. Default: `X-Lumio-`.
	HeaderPrefix string `json:"header_prefix,omitempty"`

	// Forward the `Authorization` header too. By default it is removed.
	KeepCredential bool `json:"keep_credential,omitempty"`

	// Sign who called, so that the upstream can verify it. Off by default.
	// `GET /.well-known/lumio-keys.json` is answered with the public keys in any
	// case, before any check.
	Assertion *Assertion `json:"assertion,omitempty"`

	// How many keys that are not good may come from one client address. Default:
	// any number, since they cost next to nothing.
	FailureLimit *FailureLimit `json:"failure_limit,omitempty"`

	app      *App
	asserter *asserter
	keys     *publicKeys
	gate     *gate.Gate
	refuser  *refuser
	auditor  *auditor
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
	if h.app, err = appOf(ctx); err != nil {
		return err
	}
	if h.Assertion != nil {
		h.asserter = &asserter{app: h.app}
		h.app.onStart(func(repl *caddy.Replacer) error { return h.asserter.start(h.Assertion, repl) })
	}
	if h.gate, err = h.newGate(); err != nil {
		return err
	}
	h.refuser = newRefuser(ctx.Slogger())
	h.keys = &publicKeys{app: h.app, refuser: h.refuser}
	h.auditor = newAuditor(h.app)
	h.failures, err = newFailures(h.FailureLimit)
	return err
}

// Cleanup gives up what the handler shares with others.
func (h *Handler) Cleanup() error { return h.failures.release() }

// newGate makes the gate of these settings, which it checks on the way.
func (h *Handler) newGate() (*gate.Gate, error) {
	if _, err := store.CleanPermissions(h.Require); err != nil {
		return nil, fmt.Errorf("require: %w", err)
	}
	prefix := h.HeaderPrefix
	if prefix == "" {
		prefix = DefaultHeaderPrefix
	}
	config := gate.Config{
		Prefix:         prefix,
		Require:        h.Require,
		Passthrough:    h.Passthrough,
		KeepCredential: h.KeepCredential,
		Assert:         carry(prefix),
	}
	if h.Assertion != nil {
		if err := h.Assertion.check(); err != nil {
			return nil, err
		}
	}
	if h.asserter != nil {
		h.asserter.prefix = prefix
		config.Assert = h.asserter.assert
	}
	return gate.New(config)
}

// appOf finds the app. A configuration without it is refused: Caddy would make one
// with the defaults, whose new and empty store refuses every good key.
func appOf(ctx caddy.Context) (*App, error) {
	module, err := ctx.AppIfConfigured("system_keys")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, errNoApp
	}
	if err != nil {
		return nil, fmt.Errorf("system_keys: %w", err)
	}
	return module.(*App), nil
}

var errNoApp = errors.New("system_keys is not configured, which says where the keys are: add the global option to the Caddyfile, " +
	"or the app to the JSON (empty, it means a SQLite file in Caddy's data folder)")

// ServeHTTP implements [caddyhttp.MiddlewareHandler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if h.keys.asked(r) {
		h.keys.serve(w, r)
		return nil
	}
	before := callerOf(r)
	if refusal := before.refused(); refusal != nil {
		h.refuser.answer(w, r, refusal)
		return nil
	}
	pass := newPassage(h.app, w, r)
	defer pass.leave()
	others := before.present(r)
	d := pass.enter(h.gate, before.inFlight())
	takeBack(r, others)
	if d.Refusal != nil {
		return h.refuse(w, r, &pass.caller, before)
	}
	allowed := d.Allowed()
	measured.Decided(allowed)
	switch allowed {
	case gate.AllowedKey:
		pass.caller.announce(r)
	case gate.AllowedEarlier: // in whose flight it is
		before.announce(r)
		defer h.gate.Withdraw(r)
		return next.ServeHTTP(w, r)
	default:
		return next.ServeHTTP(w, r)
	}
	refusal, err := pass.through(next, h.gate, h.auditor)
	if refusal != nil {
		// Error routes are not for it: an answer in place of this one could come from
		// an upstream, and hide from the client that its key has ended.
		h.refuser.answer(w, r, refusal)
		return nil
	}
	return err
}

// refuse records and answers a refusal. Before is what an earlier handler has said
// of the request.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, who, before *caller) error {
	refusal := h.failures.judge(r, who.Refusal)
	h.auditor.denied(r, &who.Decision, refusal.Status)
	measured.Decided(refusal.Reason)
	tellRefusal(r, refusal.Reason)
	if who.Key == "" && before != nil { // else the key decides, whoever came before
		who = before
	}
	who.refuse(r, refusal)
	return h.refuser.refuse(w, r, refusal)
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
