package caddymodule

import (
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
)

// callerVar is the variable of a request that holds its [caller].
const callerVar = "system_keys.caller"

// caller is what one handler of ours tells the next about a request. No client
// and no other handler can make one up: it is a type of ours. It holds the key, so
// it prints as nothing, in every form: variables can be shown by placeholders,
// templates and logs.
type caller struct {
	gate.Decision // the key in it was taken away from the request
	stage         stage
	repl          *caddy.Replacer // that knows the placeholders
}

// stage is how far a request has come.
type stage uint8

const (
	// The first: the admin plane, or Caddy's authentication handler, has accepted the
	// key. Nobody sees the end of the request, and nobody can cut it.
	_ stage = iota
	// flying: the request can be cut.
	flying
	// landed: it was answered. The placeholders stay, for handlers that log.
	landed
	// withdrawn: it has ended by an error, or was cut. Who called is for the access
	// log alone.
	withdrawn
)

// callerOf returns what an earlier handler of ours has said of the request, or nil.
func callerOf(r *http.Request) *caller {
	c, _ := caddyhttp.GetVar(r.Context(), callerVar).(*caller)
	return c
}

// announced returns whose key an earlier handler of ours has accepted, unless the
// request has left it already.
func announced(r *http.Request) *verify.Identity {
	if c := callerOf(r); c != nil && c.stage <= flying {
		return c.Identity
	}
	return nil
}

// inFlight returns who calls if the request is in a flight that can be cut.
func (c *caller) inFlight() *verify.Identity {
	if c == nil || c.stage != flying {
		return nil
	}
	return c.Identity
}

// refused returns the refusal of an earlier handler, which goes for all: a key
// that is not good does not become an anonymous request in an error route.
func (c *caller) refused() *gate.Refusal {
	if c == nil || c.Refusal == nil || !c.Refusal.Final() {
		return nil
	}
	return c.Refusal
}

// refuse ends the request here, and keeps the refusal for the handlers in error
// routes. They decide anew whether they need a key, and which permissions it must
// hold.
func (c *caller) refuse(r *http.Request, refusal *gate.Refusal) {
	c.stage, c.Refusal = withdrawn, refusal
	caddyhttp.SetVar(r.Context(), callerVar, c)
}

// present puts the key back to where its client had it, if the request is in no
// flight any more: whoever wants to send an identity has to verify it anew. It
// returns what stands there now, for [takeBack].
func (c *caller) present(r *http.Request) (others []string) {
	if c == nil || c.Key == "" || c.stage == flying {
		return nil
	}
	others = r.Header["Authorization"]
	r.Header["Authorization"] = []string{"Bearer " + c.Key}
	return others
}

// takeBack restores what present has replaced: a handler may have set a
// credential of another kind, for the upstream.
func takeBack(r *http.Request, others []string) {
	if _, kept := r.Header["Authorization"]; !kept && others != nil {
		r.Header["Authorization"] = others
	}
}

// end says that the request is leaving its flight, and whether it was answered.
func (c *caller) end(answered bool) {
	if c.stage = landed; !answered {
		c.stage = withdrawn
		c.withdrawPlaceholders()
	}
}

// Format implements [fmt.Formatter], for every verb.
func (*caller) Format(fmt.State, rune) {}

// String implements [fmt.Stringer].
func (*caller) String() string { return "" }

// MarshalText implements [encoding.TextMarshaler]. JSON, XML and slog use it.
func (*caller) MarshalText() ([]byte, error) { return nil, nil }
