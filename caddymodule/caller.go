package caddymodule

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/header"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// callerVar is the variable of a request that holds its [caller].
const callerVar = "system_keys.caller"

// caller is what one handler of ours tells the next one about a request. Its type is ours,
// so no client and no other handler can make one up. It holds the key, so it prints as
// nothing in every form: placeholders, templates and logs can show variables.
type caller struct {
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

// callerOf returns what an earlier handler of ours has told about the request, or nil.
func callerOf(r *http.Request) *caller {
	c, _ := varsOf(r)[callerVar].(*caller)
	return c
}

// varsOf returns the variables of a request, or nil outside of Caddy. The handler looks them
// up once, as each lookup walks through the contexts of the request.
func varsOf(r *http.Request) map[string]any {
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	return vars
}

// earlierIdentity returns the identity that an earlier handler of ours has accepted. If
// the request has left that handler already, it returns nil.
func earlierIdentity(r *http.Request) *verify.Identity {
	if c := callerOf(r); c != nil && c.stage <= stageInFlight {
		return c.Identity
	}
	return nil
}

// identityInFlight returns the identity if a revocation can cut the request, else nil.
func (c *caller) identityInFlight() *verify.Identity {
	if c == nil || c.stage != stageInFlight {
		return nil
	}
	return c.Identity
}

// finalRefusal returns the refusal of an earlier handler if all handlers must keep to it.
// In an error route, a bad key must not become an anonymous request.
func (c *caller) finalRefusal() *gate.Refusal {
	if c == nil || c.Refusal == nil || !c.Refusal.Final() {
		return nil
	}
	return c.Refusal
}

// keepRefusal ends the request here, and keeps the refusal for the handlers in error
// routes. They decide anew whether they need a key, and which permissions.
func (c *caller) keepRefusal(r *http.Request, refusal *gate.Refusal) {
	c.stage, c.Refusal = stageWithdrawn, refusal
	caddyhttp.SetVar(r.Context(), callerVar, c)
}

// restoreKey puts the key back into the request if the request is not in flight any more.
// A handler that wants to send an identity then has to verify the key anew. It returns the
// credential that it has replaced, for [restoreCredential].
func (c *caller) restoreKey(r *http.Request) (replaced []string) {
	if c == nil || c.Key == "" || c.stage == stageInFlight {
		return nil
	}
	replaced = r.Header["Authorization"]
	r.Header["Authorization"] = []string{"Bearer " + c.Key}
	return replaced
}

// restoreCredential puts back what restoreKey has replaced, if the gate has removed the
// key. Another handler may have set a credential of another kind for the upstream.
func restoreCredential(r *http.Request, replaced []string) {
	if _, kept := r.Header["Authorization"]; !kept && replaced != nil {
		r.Header["Authorization"] = replaced
	}
}

// withdraw ends the time in which the request can be cut. If the request was not
// answered, it takes the placeholders back.
func (c *caller) withdraw(answered bool) {
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
func (*caller) Format(fmt.State, rune) {}

// String implements [fmt.Stringer].
func (*caller) String() string { return "" }

// MarshalText implements [encoding.TextMarshaler]. JSON, XML and slog use it.
func (*caller) MarshalText() ([]byte, error) { return nil, nil }

// announce names the caller to other handlers of ours by a variable, to all handlers by
// the placeholders that Caddy's authentication handler sets for a user, and to the access
// log. Caddy takes the log's user_id from the first of these placeholders.
func (c *caller) announce(r *http.Request) {
	caddyhttp.SetVar(r.Context(), callerVar, c)
	if repl := replacerOf(r); repl != nil {
		c.setPlaceholders(repl)
	}
	logField(r, "system_key_label", c.Identity.Label)
}

// announce names the caller whose key the admin plane has accepted.
func announce(r *http.Request, identity *verify.Identity) {
	(&caller{Decision: gate.Decision{Identity: identity}}).announce(r)
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
func (c *caller) setPlaceholders(repl *caddy.Replacer) {
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
func (c *caller) placeholder(name string) (any, bool) {
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
func (c *caller) forAccessLog() bool {
	_, known := c.repl.Get("http.response.duration")
	return known
}

// logRefusal adds to the access log why a request was refused or cut, in one word, the id of
// its key if that is known, and the id of the request, which the answer and the audit log have
// too.
func logRefusal(r *http.Request, reason gate.Reason, key store.ID) {
	logField(r, "system_key_refused", string(reason))
	if key != (store.ID{}) {
		logField(r, "system_key_id", key.String())
	}
	requestID(r) // Caddy adds it to the access log once somebody asks for it
}

// logField adds a field to the access log, if the request's server has one: the field
// costs half as much as the check of a key.
func logField(r *http.Request, name, value string) {
	ctx := r.Context()
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && server != nil && server.Logs == nil {
		return
	}
	if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.String(name, value))
	}
}

// replacerOf returns the replacer of a request, or nil outside of Caddy.
func replacerOf(r *http.Request) *caddy.Replacer {
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	return repl
}

// originalRequest returns the request line as the client has sent it.
func originalRequest(r *http.Request) (method string, target *url.URL) {
	if o, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && o.URL != nil {
		return o.Method, o.URL
	}
	return r.Method, r.URL
}

// requestID returns Caddy's {http.request.uuid}, which the access log has too.
func requestID(r *http.Request) string {
	repl := replacerOf(r)
	if repl == nil {
		return ""
	}
	id, _ := repl.GetString("http.request.uuid")
	return id
}
