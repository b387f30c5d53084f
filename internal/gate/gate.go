// Package gate decides, request by request, what may pass to the upstream.
//
// It holds the policy of the proxy as plain net/http: which requests carry a system key,
// in which order they are checked, and what each refusal says. It does not know Caddy. The
// handlers of package caddymodule apply its decisions.
package gate

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/header"
	"github.com/lumio-vision/caddy-system-keys/internal/session"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Config says what a [Gate] does.
type Config struct {
	// Prefix is the header prefix that the gate owns, such as "X-Lumio-".
	Prefix string
	// Require lists the permissions that a key must hold, all of them.
	Require []string
	// Passthrough lets requests without a system key go on, without identity.
	Passthrough bool
	// KeepCredential leaves the Authorization field for the upstream.
	KeepCredential bool
	// Assert signs for the upstream who has sent a request. It returns "" and nil for
	// no assertion.
	Assert func(r *http.Request, identity *verify.Identity) (string, error)
}

// Gate checks requests. It is immutable and safe for concurrent use.
type Gate struct {
	config Config
	owner  *header.Owner
	scope  *Refusal // for a key that lacks a required permission
}

// New makes a gate. The error says what is wrong with the configuration.
func New(config Config) (*Gate, error) {
	owner, err := header.New(config.Prefix)
	if err != nil {
		return nil, err
	}
	if config.Passthrough && len(config.Require) > 0 {
		return nil, errors.New("passthrough and require exclude each other: " +
			"give the stricter route a block of its own")
	}
	return &Gate{config: config, owner: owner, scope: refuseScope(config.Require)}, nil
}

// Read reads a request. It removes the header fields under the owned prefix and the cookie
// of the System page, and finds the key or refuses the request. The caller then adds the
// identity, by [Decision.Admitted] if there is a key, else by [Decision.Earlier], and calls
// [Gate.Decide].
func (g *Gate) Read(r *http.Request) (d Decision) {
	place := g.strip(r)
	switch err := header.CheckUpgrade(r); {
	case errors.Is(err, header.ErrConnect):
		d.Refusal = refuseConnect
	case err != nil:
		d.Refusal = refuseUpgrade
	default:
		d.Key, d.Refusal = credential(r, place)
	}
	return d
}

// Decide ends a decision, in the order of the documented table, and prepares the header of
// the request.
//
// If the request goes on, Decide sets the identity's headers and removes the key, unless
// the configuration keeps it. If the request is refused, Decide removes keys wherever they
// stand, since an error route may be another proxy.
func (g *Gate) Decide(r *http.Request, d *Decision) {
	var assertion string
	if d.Refusal == nil {
		assertion, d.Refusal = g.require(r, d.Identity)
	}
	switch {
	case d.Refusal != nil:
		dropKey(r)
		hideMisplaced(r)
		return
	case d.Identity == nil:
		return
	case !g.config.KeepCredential:
		dropKey(r)
	}
	d.fields = d.Identity.Headers
	g.owner.Inject(r.Header, &d.fields)
	if assertion != "" {
		g.owner.InjectAssertion(r.Header, assertion)
	}
}

// require checks what this gate requires, and signs who calls. It runs on every request,
// since two routes may require different permissions of the same key.
func (g *Gate) require(r *http.Request, identity *verify.Identity) (assertion string, _ *Refusal) {
	switch {
	case identity == nil && g.config.Passthrough:
		return "", nil
	case identity == nil:
		return "", refuseAnonymous
	}
	for _, permission := range g.config.Require {
		if !identity.Has(permission) {
			return "", g.scope
		}
	}
	if g.config.Assert == nil {
		return "", nil
	}
	assertion, err := g.config.Assert(r, identity)
	if err != nil {
		// Without an assertion the upstream could not tell the request from a forged one.
		return "", Unavailable(UnavailableAssertion, time.Second, err)
	}
	return assertion, nil
}

// strip removes the header fields under the owned prefix, and the cookie of the System
// page. It returns the place of a misplaced system key, or nothing.
func (g *Gate) strip(r *http.Request) (misplaced string) {
	misplaced = outsideHeader(r)
	g.owner.Strip(r, func(name string, values []string) {
		if misplaced == "" && fieldHolds(name, values) {
			misplaced = placeOf(name)
		}
	})
	session.Strip(r.Header)
	return misplaced
}

// Withdraw takes the identity back from a request that this gate has let through. It
// removes every field under the owned prefix, and the key if it was kept.
//
// Call it after the next handler, however that has ended. Outer handlers and error routes
// share the header of the request. They could send the identity to another upstream after
// the request is no longer in flight.
func (g *Gate) Withdraw(r *http.Request) {
	g.owner.Remove(r.Header)
	dropKey(r)
}

// TakeRequired takes out of an answer which permissions the upstream has asked of the key, and
// notes them for the key. What is no permission is passed over.
func (g *Gate) TakeRequired(answer http.Header, identity *verify.Identity) {
	noted := 0
	for _, line := range g.owner.TakeRequired(answer) {
		for permission := range strings.SplitSeq(line, ",") {
			permission = strings.Trim(permission, " \t")
			if noted < store.MaxPermissions && store.ValidPermission(permission) {
				identity.Asked(permission)
				noted++
			}
		}
	}
}

// dropKey removes a system key from the Authorization field. It leaves other credentials
// alone.
func dropKey(r *http.Request) {
	if slices.ContainsFunc(r.Header["Authorization"], token.Mentions) {
		delete(r.Header, "Authorization")
	}
}
