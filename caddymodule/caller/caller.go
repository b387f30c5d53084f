// Package caller is what one handler of ours tells the next one, and Caddy, about who has sent
// a request.
package caller

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/request"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/header"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
)

// variable is the variable of a request that holds its [Caller].
const variable = "system_keys.caller"

// Caller is what one handler of ours tells the next one about a request. Its type is ours,
// so no client and no other handler can make one up. It holds the key, so it prints as
// nothing in every form: placeholders, templates and logs can show variables.
type Caller struct {
	gate.Decision // the key in it was removed from the request
	stage         stage
	repl          *caddy.Replacer // the one that knows the placeholders
}

// stage says how far a request has come.
type stage uint8

const (
	// The first stage: the admin plane, or Caddy's authentication handler, has accepted
	// the key. No handler of ours sees the end of the request, so nothing can cut it.
	_ stage = iota
	// stageInFlight: a revocation can cut the request.
	stageInFlight
	// stageAnswered: the request has its answer. The placeholders stay, for handlers that
	// log.
	stageAnswered
	// stageWithdrawn: the request was refused, has ended by an error, or was cut. Only
	// the access log may still name the caller.
	stageWithdrawn
)

// In returns what an earlier handler of ours has told about a request, or nil. The variables
// are those of the request.
func In(vars map[string]any) *Caller {
	c, _ := vars[variable].(*Caller)
	return c
}

// Identity returns the identity that an earlier handler of ours has accepted. If
// the request has left that handler already, it returns nil.
func Identity(r *http.Request) *verify.Identity {
	if c := In(request.Vars(r)); c != nil && c.stage <= stageInFlight {
		return c.Identity
	}
	return nil
}

// IdentityInFlight returns the identity if a revocation can cut the request, else nil.
func (c *Caller) IdentityInFlight() *verify.Identity {
	if c == nil || c.stage != stageInFlight {
		return nil
	}
	return c.Identity
}

// FinalRefusal returns the refusal of an earlier handler if all handlers must keep to it.
// In an error route, a bad key must not become an anonymous request.
func (c *Caller) FinalRefusal() *gate.Refusal {
	if c == nil || c.Refusal == nil || !c.Refusal.Final() {
		return nil
	}
	return c.Refusal
}

// Tell tells the handlers that follow, without a word to others.
func (c *Caller) Tell(r *http.Request) { caddyhttp.SetVar(r.Context(), variable, c) }

// EnterFlight says that a revocation can cut the request from now on.
func (c *Caller) EnterFlight() { c.stage = stageInFlight }

// KeepRefusal ends the request here, and keeps the refusal for the handlers in error
// routes. They decide anew whether they need a key, and which permissions.
func (c *Caller) KeepRefusal(r *http.Request, refusal *gate.Refusal) {
	c.stage, c.Refusal = stageWithdrawn, refusal
	c.Tell(r)
}

// RestoreKey puts the key back into the request if the request is not in flight any more.
// A handler that wants to send an identity then has to verify the key anew. It returns the
// credential that it has replaced, for [RestoreCredential].
func (c *Caller) RestoreKey(r *http.Request) (replaced []string) {
	if c == nil || c.Key == "" || c.stage == stageInFlight {
		return nil
	}
	replaced = r.Header["Authorization"]
	r.Header["Authorization"] = []string{"Bearer " + c.Key}
	return replaced
}

// RestoreCredential puts back what RestoreKey has replaced, if the gate has removed the
// key. Another handler may have set a credential of another kind for the upstream.
func RestoreCredential(r *http.Request, replaced []string) {
	if _, kept := r.Header["Authorization"]; !kept && replaced != nil {
		r.Header["Authorization"] = replaced
	}
}

// Withdraw ends the time in which the request can be cut. If the request was not
// answered, it takes the placeholders back.
func (c *Caller) Withdraw(answered bool) {
	if answered {
		c.stage = stageAnswered
		return
	}
	c.stage = stageWithdrawn
	if c.repl == nil {
		return
	}
	for _, name := range userPlaceholders {
		c.repl.Delete(name)
	}
}

// Format implements [fmt.Formatter], for every verb.
func (*Caller) Format(fmt.State, rune) {}

// String implements [fmt.Stringer].
func (*Caller) String() string { return "" }

// MarshalText implements [encoding.TextMarshaler]. JSON, XML and slog use it.
func (*Caller) MarshalText() ([]byte, error) { return nil, nil }

// Announce names the caller to other handlers of ours, to all handlers by the placeholders
// that Caddy's authentication handler sets for a user, and to the access log. Caddy takes the
// log's user_id from the first of these placeholders.
func (c *Caller) Announce(r *http.Request) {
	c.Tell(r)
	if repl := request.Replacer(r); repl != nil {
		c.setPlaceholders(repl)
	}
	request.LogField(r, "system_key_label", c.Identity.Label)
}

// The placeholders of a user.
const (
	userID          = "http.auth.user.id"
	userLabel       = "http.auth.user.label"
	userPermissions = "http.auth.user.permissions"
	userType        = "http.auth.user.type"
)

var userPlaceholders = [...]string{userID, userLabel, userPermissions, userType}

// setPlaceholders adds the placeholders. One function costs less than four entries in the
// replacer's map. But the map takes precedence, so the entries of another handler there
// are overwritten.
func (c *Caller) setPlaceholders(repl *caddy.Replacer) {
	_, taken := repl.Get(userID)
	if c.repl == nil {
		c.repl = repl
		repl.Map(c.placeholder)
	}
	if taken {
		for _, name := range userPlaceholders {
			value, _ := c.placeholder(name)
			repl.Set(name, value)
		}
	}
}

// placeholder implements [caddy.ReplacerFunc].
func (c *Caller) placeholder(name string) (any, bool) {
	var value any
	switch name {
	case userID:
		value = c.Identity.ID.String()
	case userLabel:
		value = c.Identity.Label
	case userPermissions:
		value = strings.Join(c.Identity.Permissions, ",")
	case userType:
		value = header.AuthType
	default:
		return nil, false
	}
	if c.stage == stageWithdrawn && (name != userID || !c.forAccessLog()) {
		return nil, false
	}
	return value, true
}

// forAccessLog reports whether only the access log can still ask for placeholders. For the
// log Caddy adds the response's placeholders after all routes: see logRequest in Caddy's
// modules/caddyhttp/server.go.
func (c *Caller) forAccessLog() bool {
	_, known := c.repl.Get("http.response.duration")
	return known
}
