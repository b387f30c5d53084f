package page

import (
	"errors"
	"net/http"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/session"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// visit is the visit of a browser to the page. It belongs to one request.
type visit struct {
	// token is the token of the browser's cookie. An admin without a session has one
	// too, to which forms are bound.
	token session.Token
	// session says that the browser has a session.
	session bool
}

// errSignedOut says that nobody is signed in. A page answers with the form to sign in, and the
// API with 401.
var errSignedOut = errors.New("nobody is signed in")

// subject names the actor in a nonce. The zero byte keeps a type and a name apart, as no type
// has one.
func subject(a admin.Actor) string { return a.Type + "\x00" + a.Name }

// nonce makes a nonce for a form that is shown. The visit must be known. To make one asks no
// store; only a nonce that was spent is kept.
func (x *exchange) nonce() string {
	return x.visit.token.Nonce(subject(x.Actor), x.page.config.Now())
}

// secure reports whether the browser speaks TLS, to this server or to a proxy that is trusted.
// Anybody may send X-Forwarded-Proto, so only a trusted proxy is believed. With the wrong answer
// the cookie has no Secure, or the browser refuses it.
func (p *Page) secure(r *http.Request) bool {
	return r.TLS != nil || p.config.ForwardedTLS != nil && p.config.ForwardedTLS(r)
}

// scope is what the browser reaches this page by.
func (p *Page) scope(r *http.Request) session.Scope {
	return session.Scope{Secure: p.secure(r), Mount: p.config.Mount}
}

// enter finds out whose browser it is, and refuses an admin who may not see the page. An admin
// whom the request itself names needs no session. If nobody is signed in, the error wraps
// errSignedOut. Every call that shows or changes keys comes through it.
//
// A credential of the request goes before the cookie. If it is bad, it is refused, and the
// session does not count. The visit is known before the permission is checked, so that an error
// page can say who is signed in.
func (x *exchange) enter(w http.ResponseWriter, r *http.Request) error {
	p := x.page
	if err := x.SameSite(r); err != nil {
		return err
	}
	// Whoever is named by the request itself needs no session: an earlier handler may have let
	// the person through.
	actor, named, err := p.config.Identities.Known(r)
	if err != nil {
		return err
	}
	if x.Service, err = p.config.Service(r.Context()); err != nil {
		return err
	}
	token, hasCookie := session.Read(r, p.scope(r))
	if !named {
		if !hasCookie {
			return signedOut()
		}
		if actor, err = x.resume(r, token); err != nil {
			return err
		}
	} else if !hasCookie { // forms of this admin need a token too
		token = session.NewToken()
		session.Set(w.Header(), token, p.scope(r))
	}
	actor.Request = x.Request
	x.Actor, x.visit = actor, &visit{token: token, session: !named}
	return x.Actor.May(admin.PermissionAccess)
}

// resume finds the key of a session, and reads its current state. A session ends with its key,
// and has the permissions and the networks that the key has now. No cache is asked: a session of
// a key that was revoked a moment ago is over on every instance.
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
	return x.page.config.Identities.BySession(r, x.Request.ClientIP, key)
}

// signedOut is the answer to a browser without a session. It copies the refusal, which is shared
// by all requests.
func signedOut() error {
	refusal := *gate.Anonymous()
	refusal.Message, refusal.Err = "sign in first", errSignedOut
	return &refusal
}

// spendNonce checks the nonce of a form, and refuses a nonce that was spent before. The error is
// then [store.ErrConflict]. The nonce is spent before the work is done. If that fails, a new
// form is needed. The other way round, a form that is sent twice could do its work twice.
func (x *exchange) spendNonce(r *http.Request, nonce string) error {
	expires, err := x.checkNonce(nonce)
	if err != nil {
		return err
	}
	ctx, cancel := admin.Detached(r.Context())
	defer cancel()
	return x.Service.Store.SpendNonce(ctx, session.NonceDigest(nonce), expires)
}

// checkNonce checks the nonce of a form, and returns when the nonce expires. By itself it is for
// a form that does no harm when it is sent twice, such as to revoke a key.
func (x *exchange) checkNonce(nonce string) (expires time.Time, err error) {
	expires, ok := x.visit.token.CheckNonce(subject(x.Actor), nonce, x.page.config.Now())
	if !ok {
		err = &gate.Refusal{Status: http.StatusForbidden, Code: "csrf", Message: "the form does not belong to this session"}
	}
	return expires, err
}

// visited makes a call of the REST API available to an admin who is signed in to the
// page. Three things refuse a forged request: [admin.Exchange.SameSite], the SameSite
// attribute of the cookie, and the media type, since a form of another site cannot
// send JSON.
//
// The errors are JSON, as those of the REST API.
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
