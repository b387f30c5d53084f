package gate

import (
	"errors"
	"net/http"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/header"
	"github.com/lumio-vision/caddy-system-keys/internal/session"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
)

// Config is what a [Gate] does.
type Config struct {
	// Prefix is the header prefix that it owns, such as "X-Lumio-".
	Prefix string
	// Require lists the permissions that a key must hold, all of them.
	Require []string
	// Passthrough lets requests without a system key go on, without identity.
	Passthrough bool
	// KeepCredential leaves the Authorization field for the upstream.
	KeepCredential bool
	// Assert signs for the upstream who has sent a request; "" and nil for no
	// assertion.
	Assert func(r *http.Request, identity *verify.Identity) (string, error)
}

// Gate checks requests. It is immutable and safe for concurrent use.
type Gate struct {
	config Config
	owner  *header.Owner
	scope  *Refusal
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

// Read reads a request. It removes whatever the client sent under the owned prefix and
// the cookie of the System page, and finds the key or refuses the request. The caller
// adds who it is, by [Decision.Admitted] if there is a key, else by [Decision.Earlier], and
// then calls [Gate.Decide].
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
// If the request goes on, the identity's headers are set and the credential is gone,
// unless it is to be kept. If it is refused, a credential of ours is gone wherever it
// stood, since an error route may well be another proxy.
func (g *Gate) Decide(r *http.Request, d *Decision) {
	var assertion string
	if d.Refusal == nil {
		assertion, d.Refusal = g.require(r, d.Identity)
	}
	switch {
	case d.Refusal != nil:
		dropKey(r)
		hide(r)
		return
	case d.Identity == nil:
		return
	case !g.config.KeepCredential:
		dropKey(r)
	}
	g.owner.Inject(r.Header, &d.Identity.Headers)
	if assertion != "" {
		g.owner.InjectAssertion(r.Header, assertion)
	}
}

// require checks what this gate requires, and signs who calls. No check of a permission is
// part of what is remembered of a key: two routes may require different things.
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
		// Without it the upstream could not tell the request from a forged one.
		return "", Unavailable(UnavailableAssertion, time.Second, err)
	}
	return assertion, nil
}

// strip removes what only this proxy may say, and the cookie of the System page. It
// returns the place of a system key that stands where none belongs, or nothing.
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
