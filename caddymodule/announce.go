package caddymodule

import (
	"context"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/header"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
)

// authType is boxed once, like the values of an identity.
var authType any = header.AuthType

// announce tells the rest of Caddy who calls: other handlers of ours by a
// variable, everybody by the placeholders that the authentication handler has for
// a user, and the access log, whose user_id Caddy takes from the first of them.
func (c *caller) announce(r *http.Request) {
	ctx := r.Context()
	caddyhttp.SetVar(ctx, callerVar, c)
	if repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		c.placeholders(repl)
	}
	if !logged(ctx) {
		return
	}
	if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.String("system_key_label", c.Identity.Label))
	}
}

// announce tells the rest of Caddy whose key the admin plane has accepted.
func announce(r *http.Request, identity *verify.Identity) {
	(&caller{Decision: gate.Decision{Identity: identity}}).announce(r)
}

// tellRefusal tells the access log why a request was refused or cut, in one word.
func tellRefusal(r *http.Request, reason gate.Reason) {
	ctx := r.Context()
	if !logged(ctx) {
		return
	}
	if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.String("system_key_refused", string(reason)))
	}
}

// The placeholders of a user.
const (
	userID          = "http.auth.user.id"
	userLabel       = "http.auth.user.label"
	userPermissions = "http.auth.user.permissions"
	userType        = "http.auth.user.type"
)

// placeholders makes them known. A function is cheaper than four entries in the
// replacer's map, which has precedence: what another handler has set there is
// overwritten.
func (c *caller) placeholders(repl *caddy.Replacer) {
	_, taken := repl.Get(userID)
	if c.repl == nil {
		c.repl = repl
		repl.Map(c.placeholder)
	}
	if taken {
		repl.Set(userID, c.Identity.Boxed.ID)
		repl.Set(userLabel, c.Identity.Boxed.Label)
		repl.Set(userPermissions, c.Identity.Boxed.Permissions)
		repl.Set(userType, authType)
	}
}

// placeholder implements [caddy.ReplacerFunc].
func (c *caller) placeholder(name string) (any, bool) {
	switch name {
	case userID:
		if c.stage == withdrawn && !c.over() {
			return nil, false
		}
		return c.Identity.Boxed.ID, true
	case userLabel, userPermissions, userType:
	default:
		return nil, false
	}
	switch {
	case c.stage == withdrawn:
		return nil, false
	case name == userLabel:
		return c.Identity.Boxed.Label, true
	case name == userPermissions:
		return c.Identity.Boxed.Permissions, true
	}
	return authType, true
}

// over reports whether the request has been answered, so that nobody but the
// access log can ask: Caddy makes the response's placeholders known for it, after
// all routes. See logRequest in Caddy's modules/caddyhttp/server.go.
func (c *caller) over() bool {
	_, known := c.repl.Get("http.response.duration")
	return known
}

// withdrawPlaceholders takes the placeholders back.
func (c *caller) withdrawPlaceholders() {
	if c.repl == nil {
		return
	}
	for _, name := range [...]string{userID, userLabel, userPermissions, userType} {
		c.repl.Delete(name)
	}
}

// logged reports whether the request's server has access logs: a field for them
// costs half of what a check of a key does.
func logged(ctx context.Context) bool {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return !ok || server == nil || server.Logs != nil
}
