package admin

import (
	"errors"
	"net/http"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/session"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// PermissionAccess is needed for the System page, beside the permission for what
// is done there.
const PermissionAccess = "admin:access"

// visit is a browser on the System page.
type visit struct {
	// token is what it holds. Of an admin who signs in by itself it is only what
	// forms are bound to.
	token session.Token
	// session says that the admin is here by a session.
	session bool
}

// errSignedOut says that nobody is signed in.
var errSignedOut = errors.New("nobody is signed in")

// subject names the actor in what is bound to it.
func (a Actor) subject() string { return a.Type + "\x00" + a.Name }

func (x *exchange) nonce() string {
	return x.visit.token.Nonce(x.actor.subject(), x.handler.config.Now())
}

func (h *Handler) secure(r *http.Request) bool {
	return r.TLS != nil || h.config.ForwardedTLS != nil && h.config.ForwardedTLS(r)
}

// enter finds out whose browser it is, and lets those in who may see the page. An
// admin whom the request itself names signs in by itself; others need a session.
// The error of who is not signed in wraps errSignedOut.
func (x *exchange) enter(w http.ResponseWriter, r *http.Request) error {
	h := x.handler
	if err := x.sameSite(r); err != nil {
		return err
	}
	actor, known, err := h.config.Identities.known(r)
	if err != nil {
		return err
	}
	if x.service, err = h.config.Service(r.Context()); err != nil {
		return err
	}
	token, held := session.Read(r, h.secure(r))
	if !known {
		if !held {
			return signedOut()
		}
		if actor, err = x.resume(r, token); err != nil {
			return err
		}
	} else if !held {
		token = session.NewToken()
		session.Set(w.Header(), token, h.secure(r))
	}
	actor.Request = x.request
	x.actor, x.visit = actor, &visit{token: token, session: !known}
	return x.actor.may(PermissionAccess)
}

// resume finds the key of a session, as it is now.
func (x *exchange) resume(r *http.Request, token session.Token) (Actor, error) {
	ctx, cancel := bounded(r.Context())
	defer cancel()
	now := x.handler.config.Now()
	key, err := x.service.Store.Session(ctx, token.Digest(), now)
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && key.Expired(now):
		return Actor{}, signedOut()
	case err != nil:
		return Actor{}, err
	}
	identity := verify.IdentityOf(key)
	if announce := x.handler.config.Identities.Announce; announce != nil {
		announce(r, identity)
	}
	return KeyActor(identity), nil
}

func signedOut() error {
	p := *gate.Anonymous()
	p.Message, p.Err = "sign in first", errSignedOut
	return &p
}

// spend checks the nonce of a form, and that it is the first time that it is sent.
func (x *exchange) spend(r *http.Request, nonce string) error {
	expires, ok := x.visit.token.CheckNonce(x.actor.subject(), nonce, x.handler.config.Now())
	if !ok {
		return forged()
	}
	ctx, cancel := detached(r.Context())
	defer cancel()
	return x.service.Store.SpendNonce(ctx, session.NonceDigest(nonce), expires)
}

// checkNonce is for forms that do no harm when they are sent twice.
func (x *exchange) checkNonce(nonce string) error {
	if _, ok := x.visit.token.CheckNonce(x.actor.subject(), nonce, x.handler.config.Now()); !ok {
		return forged()
	}
	return nil
}

func forged() *gate.Refusal {
	return &gate.Refusal{Status: http.StatusForbidden, Code: "csrf", Message: "the form does not belong to this session"}
}

// visited makes a call of the API available to an admin who is signed in to the page.
// Three things refuse a forged request: [exchange.sameSite], the cookie's SameSite
// attribute, and [checkContentType], since a form of another site cannot send JSON.
func (p *page) visited(do call) call {
	return func(w http.ResponseWriter, r *http.Request, x *exchange) error {
		if err := x.enter(w, r); err != nil {
			return err
		}
		if err := x.route.accepts(r); err != nil {
			return err
		}
		return do(w, r, x)
	}
}

// recent is how long ago a key was used that is in use.
const recent = time.Hour
