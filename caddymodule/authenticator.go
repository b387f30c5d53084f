package caddymodule

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/answer"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/caller"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/request"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/header"
)

func init() {
	caddy.RegisterModule(new(Authenticator))
}

// Authenticator is the check of a system key for Caddy's own `authentication`
// handler, to be combined with its other providers.
//
// Prefer the handler `system_key_auth`. The interface of a provider knows only success and
// 401, and does not see the end of a request. So a missing permission, a key from outside of
// its networks, and a store that does not answer are 401 too, and no `Retry-After` is sent. A
// request in flight is not cut when its key is revoked, is not recorded in the audit log, and
// is not signed for the upstream.
// The identity also stays on a request that goes to error routes. A `system_key_auth`
// behind it closes these gaps: it verifies the key anew, cuts the request, and takes the
// identity back.
//
// If another provider beside it lets a request through, this provider may not have seen the
// request. Then only a `system_key_auth` stops identity headers that the client made up,
// and a system key in the wrong place.
type Authenticator struct {
	// Permissions that a key must hold, all of them.
	Require []string `json:"require,omitempty"`

	// The prefix of the headers that the upstream receives. Default: `X-Lumio-`.
	HeaderPrefix string `json:"header_prefix,omitempty"`

	// Forward the `Authorization` header too. By default it is removed after the
	// key was accepted.
	KeepCredential bool `json:"keep_credential,omitempty"`

	app     *app.App
	gate    *gate.Gate
	refuser *answer.Refuser
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
	a.refuser = answer.NewRefuser(ctx.Slogger())
	a.app, err = app.Of(ctx)
	return err
}

// Authenticate implements [caddyauth.Authenticator]. It returns an error for a technical
// failure, and false without an error for a bad key.
func (a *Authenticator) Authenticate(w http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
	c := &caller.Caller{Decision: a.gate.Read(r)}
	if c.Key != "" {
		c.Admitted(a.app.Admit(r, c.Key))
	} else {
		c.Earlier(caller.Identity(r))
	}
	a.gate.Decide(r, &c.Decision)
	if refusal := c.Refusal; refusal != nil {
		a.refuser.Prepare(w, r, refusal)
		a.app.RecordDenial(r, &c.Decision, http.StatusUnauthorized)
		app.Meter.Decided(refusal.Reason)
		request.LogRefusal(r, refusal.Reason, c.KeyID)
		if refusal.Status >= http.StatusInternalServerError {
			return caddyauth.User{}, false, refusal
		}
		return caddyauth.User{}, false, nil
	}
	app.Meter.Decided(c.Allowed())
	if c.Key != "" {
		// The admin plane needs it to tell a key from a user, and `system_key_auth` to
		// verify the key anew.
		c.Tell(r)
		request.LogField(r, "system_key_label", c.Identity.Label)
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
