package caddymodule

import (
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
		repl.Set("http.auth.user.id", identity.Boxed.ID)
		repl.Set("http.auth.user.label", identity.Boxed.Label)
		repl.Set("http.auth.user.permissions", identity.Boxed.Permissions)
		repl.Set("http.auth.user.type", authType)
	}
	if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.String("system_key_label", identity.Label))
	}
}
