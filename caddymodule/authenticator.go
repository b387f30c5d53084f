package caddymodule

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/header"
)

func init() {
	caddy.RegisterModule(new(Authenticator))
}

// Authenticator is the check of a system key for Caddy's own `authentication`
// handler, to be combined with its other providers.
//
// Prefer the handler `system_key_auth`. The interface of a provider knows
// success and 401, and does not see the end of a request: a missing permission
// and a store that does not answer are 401 too, no `Retry-After` is sent, and a
// request in flight is not cut when its key is revoked, nor recorded in the audit
// log, nor signed for the upstream. The identity also stays on a request that goes
// to error routes. A `system_key_auth` behind it closes these gaps: it verifies
// the key anew, cuts the request, and takes the identity back. With other providers
// beside it, a request that one of them lets through may not have been seen
// here, so identity headers that its client made up, and a system key in the wrong
// place, are only stopped by `system_key_auth`.
type Authenticator struct {
	// Permissions that a key must hold, all of them.
	Require []string `json:"require,omitempty"`

	// The prefix of the headers that the upstream receives. Default: `X-Lumio-`.
	HeaderPrefix string `json:"header_prefix,omitempty"`

	// Forward the `Authorization` header too. By default it is removed once the
	// key was found good.
	KeepCredential bool `json:"keep_credential,omitempty"`

	app     *App
	gate    *gate.Gate
	refuser *refuser
}

// CaddyModule returns the Caddy module information.
func (*Authenticator) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.authentication.providers.system_key",
		New: func() caddy.Module { return new(Authenticator) },
	}
}

// Provision checks the settings and finds the app.
func (a *Authenticator) Provision(ctx caddy.Context) (err error) {
	settings := Handler{Require: a.Require, HeaderPrefix: a.HeaderPrefix, KeepCredential: a.KeepCredential}
	if a.gate, err = settings.newGate(); err != nil {
		return err
	}
	a.refuser = newRefuser(ctx.Slogger())
	a.app, err = appOf(ctx)
	return err
}

// Authenticate implements [caddyauth.Authenticator]. An error is a technical
// failure; a key that is not good is none.
func (a *Authenticator) Authenticate(w http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
	c := &caller{Decision: a.gate.Read(r)}
	if c.Key != "" {
		c.Admitted(a.app.admit(r.Context(), c.Key))
	} else {
		c.Earlier(announced(r))
	}
	a.gate.Decide(r, &c.Decision)
	if refusal := c.Refusal; refusal != nil {
		for name, values := range refusal.Header {
			w.Header()[name] = slices.Clone(values)
		}
		a.refuser.log(r, refusal)
		measured.Decided(refusal.Reason)
		tellRefusal(r, refusal.Reason)
		if refusal.Status >= http.StatusInternalServerError {
			return caddyauth.User{}, false, refusal
		}
		return caddyauth.User{}, false, nil
	}
	measured.Decided(c.Allowed())
	if c.Key != "" {
		// For the admin plane, to which a key is not the same as a user, and for
		// `system_key_auth`, which verifies the key anew.
		caddyhttp.SetVar(r.Context(), callerVar, c)
	}
	return caddyauth.User{
		ID: c.Identity.ID.String(),
		Metadata: map[string]string{
			"label":       c.Identity.Label,
			"permissions": strings.Join(c.Identity.Permissions, ","),
			"type":        header.AuthType,
		},
	}, true, nil
}

// Interface guards.
var (
	_ caddy.Provisioner       = (*Authenticator)(nil)
	_ caddyauth.Authenticator = (*Authenticator)(nil)
)
