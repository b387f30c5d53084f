package page

import (
	"errors"
	"net/http"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/session"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

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
func subject(a admin.Actor) string { return a.Type + "\x00" + a.Name }

func (x *exchange) nonce() string {
	return x.visit.token.Nonce(subject(x.Actor), x.page.config.Now())
}

func (p *Page) secure(r *http.Request) bool {
	return r.TLS != nil || p.config.ForwardedTLS != nil && p.config.ForwardedTLS(r)
}

// enter finds out whose browser it is, and lets those in who may see the page. An
// admin whom the request itself names signs in by itself; others need a session.
// The error of who is not signed in wraps errSignedOut.
func (x *exchange) enter(w http.ResponseWriter, r *http.Request) error {
	p := x.page
	if err := x.SameSite(r); err != nil {
		return err
	}
	actor, known, err := p.config.Identities.Known(r)
	if err != nil {
		return err
	}
	if x.Service, err = p.config.Service(r.Context()); err != nil {
		return err
	}
	token, held := session.Read(r, p.secure(r))
	if !known {
		if !held {
			return signedOut()
		}
		if actor, err = x.resume(r, token); err != nil {
			return err
		}
	} else if !held {
		token = session.NewToken()
		session.Set(w.Header(), token, p.secure(r))
	}
	actor.Request = x.Request
	x.Actor, x.visit = actor, &visit{token: token, session: !known}
	return x.Actor.May(admin.PermissionAccess)
}

// resume finds the key of a session, as it is now.
func (x *exchange) resume(r *http.Request, token session.Token) (admin.Actor, error) {
	ctx, cancel := admin.Bounded(r.Context())
	defer cancel()
	now := x.page.config.Now()
	key, err := x.Service.Store.Session(ctx, token.Digest(), now)
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && key.Expired(now):
		return admin.Actor{}, signedOut()
	case err != nil:
		return admin.Actor{}, err
	}
	identity := verify.IdentityOf(key)
	if announce := x.page.config.Identities.Announce; announce != nil {
		announce(r, identity)
	}
	return admin.KeyActor(identity), nil
}

func signedOut() error {
	p := *gate.Anonymous()
	p.Message, p.Err = "sign in first", errSignedOut
	return &p
}

// spend checks the nonce of a form, and that it is the first time that it is sent.
func (x *exchange) spend(r *http.Request, nonce string) error {
	expires, ok := x.visit.token.CheckNonce(subject(x.Actor), nonce, x.page.config.Now())
	if !ok {
		return forged()
	}
	ctx, cancel := admin.Detached(r.Context())
	defer cancel()
	return x.Service.Store.SpendNonce(ctx, session.NonceDigest(nonce), expires)
}

// checkNonce is for forms that do no harm when they are sent twice.
func (x *exchange) checkNonce(nonce string) error {
	if _, ok := x.visit.token.CheckNonce(subject(x.Actor), nonce, x.page.config.Now()); !ok {
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
func (p *Page) visited(do admin.Call) admin.Call {
	return func(w http.ResponseWriter, r *http.Request, outer *admin.Exchange) error {
		x := &exchange{Exchange: outer, page: p}
		if err := x.enter(w, r); err != nil {
			return err
		}
		if err := x.Route.Accepts(r); err != nil {
			return err
		}
		return do(w, r, outer)
	}
}

// recent is how long ago a key was used that is in use.
const recent = time.Hour
