package gate

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/header"
	"github.com/lumio-vision/caddy-system-keys/internal/session"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
)

// Verifier says whose key it is, as [verify.Verifier.Verify] does.
type Verifier interface {
	Verify(ctx context.Context, key string) (*verify.Identity, error)
}

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

// Check decides on a request, in the order of the documented table, and
// prepares its header for the upstream.
//
// Whatever the outcome, nothing that the client sent under the owned prefix is
// left, nor a cookie of the System page. On success the identity's headers are
// set and the credential is gone, unless it is to be kept. The identity is nil for
// a request that passes without a key.
//
// Earlier is who another gate has let through on the same request, or nil. That
// gate took the key away, so its word stands; but what this gate requires is
// checked, and its headers are set.
//
// After a refusal a credential of ours is gone too, wherever it stood, since an error
// route may well be another proxy. A request whose client went away while it was
// verified gets the error of its context, as the cause of an unavailable answer.
func (g *Gate) Check(
	r *http.Request, verifier Verifier, earlier *verify.Identity,
) (*verify.Identity, *Refusal) {
	place := g.strip(r)
	identity, refusal := g.decide(r, place, verifier, earlier)
	var assertion string
	if identity != nil && g.config.Assert != nil {
		var err error
		if assertion, err = g.config.Assert(r, identity); err != nil {
			// Without it the upstream could not tell the request from a forged one.
			identity, refusal = nil, refuseUnavailable(time.Second, err)
		}
	}
	spent := refusal != nil || identity != nil && !g.config.KeepCredential
	if spent {
		dropKey(r)
	}
	if refusal != nil {
		hide(r)
	}
	if identity != nil {
		g.owner.Inject(r.Header, &identity.Headers)
	}
	if assertion != "" {
		g.owner.InjectAssertion(r.Header, assertion)
	}
	return identity, refusal
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

func (g *Gate) decide(
	r *http.Request, misplaced string, verifier Verifier, earlier *verify.Identity,
) (*verify.Identity, *Refusal) {
	switch err := header.CheckUpgrade(r); {
	case errors.Is(err, header.ErrConnect):
		return nil, refuseConnect
	case err != nil:
		return nil, refuseUpgrade
	}
	key, refusal := credential(r, misplaced)
	switch {
	case refusal != nil:
		return nil, refusal
	case key != "":
		identity, refusal := Identify(r.Context(), key, verifier)
		if refusal != nil {
			return nil, refusal
		}
		return g.admit(identity)
	case earlier != nil:
		return g.admit(earlier)
	case g.config.Passthrough:
		return nil, nil
	}
	return nil, refuseAnonymous
}

// admit checks what is required. That is never part of what is remembered of a
// key: two routes may require different things.
func (g *Gate) admit(identity *verify.Identity) (*verify.Identity, *Refusal) {
	for _, permission := range g.config.Require {
		if !identity.Has(permission) {
			return nil, g.scope
		}
	}
	return identity, nil
}

// Identify asks whose key it is, and puts what comes back into a refusal if it
// is nobody's, or if that cannot be found out.
func Identify(ctx context.Context, key string, verifier Verifier) (*verify.Identity, *Refusal) {
	identity, err := verifier.Verify(ctx, key)
	if err != nil {
		return nil, Refuse(err)
	}
	return identity, nil
}

// Refuse is the answer to a key that a verifier has not accepted.
func Refuse(err error) *Refusal {
	if errors.Is(err, verify.ErrInvalidToken) {
		return refuseInvalid
	}
	retryAfter := time.Second
	if u, ok := errors.AsType[*verify.UnavailableError](err); ok {
		retryAfter = u.RetryAfter
	}
	return refuseUnavailable(retryAfter, err)
}

// Invalid is the answer to a key that is not, or no longer, good.
func Invalid() *Refusal { return refuseInvalid }

// Anonymous is the answer to a request without a key where one is needed.
func Anonymous() *Refusal { return refuseAnonymous }
