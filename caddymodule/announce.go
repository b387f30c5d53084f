package caddymodule

import (
	"context"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/lumio-vision/caddy-system-keys/internal/header"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
)

// authType is boxed once, like the values of an identity.
var authType any = header.AuthType

// identityVar is the variable of a request that holds its identity, for a second
// handler of ours on the same request.
const identityVar = "system_keys.identity"

// announced returns who an earlier handler of ours has let through. No client
// and no other handler can make one up: it is a type of ours.
func announced(r *http.Request) *verify.Identity {
	identity, _ := caddyhttp.GetVar(r.Context(), identityVar).(*verify.Identity)
	return identity
}

// announce tells the rest of Caddy who calls: by the placeholders that the
// authentication handler has for a user, and in the access log, whose user_id
// Caddy takes from the first of them.
func announce(r *http.Request, identity *verify.Identity) {
	ctx := r.Context()
	caddyhttp.SetVar(ctx, identityVar, identity)
	if repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		placeholders(repl, identity)
	}
	if !logged(ctx) {
		return
	}
	if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.String("system_key_label", identity.Label))
	}
}

// tellRefusal tells the access log why a request was refused, in one word.
func tellRefusal(r *http.Request, reason string) {
	ctx := r.Context()
	if !logged(ctx) {
		return
	}
	if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.String("system_key_refused", reason))
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
func placeholders(repl *caddy.Replacer, identity *verify.Identity) {
	if _, taken := repl.Get(userID); taken {
		repl.Set(userID, identity.Boxed.ID)
		repl.Set(userLabel, identity.Boxed.Label)
		repl.Set(userPermissions, identity.Boxed.Permissions)
		repl.Set(userType, authType)
		return
	}
	repl.Map(func(name string) (any, bool) {
		switch name {
		case userID:
			return identity.Boxed.ID, true
		case userLabel:
			return identity.Boxed.Label, true
		case userPermissions:
			return identity.Boxed.Permissions, true
		case userType:
			return authType, true
		}
		return nil, false
	})
}

// logged reports whether the request's server has access logs: a field for them
// costs half of what a check of a key does.
func logged(ctx context.Context) bool {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return !ok || server == nil || server.Logs != nil
}
