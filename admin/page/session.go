package page

import (
	"errors"
	"net/http"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/admin/page/ui"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/session"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// signIn exchanges a key for a session. The key is not kept: the browser gets a random token,
// and the store its digest. A wrong key, a malformed one and one that was revoked get the same
// answer, which says nothing of the reason. A good key without the permission for the page is
// told so.
//
// The form needs no nonce, since there is no session that another site could abuse.
// [admin.Exchange.SameSite] keeps other sites from signing a browser in to a session of theirs.
//
// A session of before is ended after the new one is there. In the other order, a store that
// fails in between would leave the admin with none.
func (p *Page) signIn(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if err := x.SameSite(r); err != nil {
		return err
	}
	form, err := admin.ReadForm(w, r, "key")
	if err != nil {
		return err
	}
	key := strings.TrimSpace(form["key"])
	// One answer for all that is wrong. The status is what a script of the page looks at.
	wrong := func() error {
		p.render(w, r, x, http.StatusUnauthorized, ui.SignIn{Notice: "wrong", Failed: true})
		return nil
	}
	// The key is checked as if it had come in the header. So one place decides what is
	// a key.
	presented := r.Clone(r.Context())
	presented.Header = http.Header{"Authorization": {"Bearer " + key}}
	// A key in the query would be refused as misplaced, for a form that is right.
	presented.URL.RawQuery = ""
	if found, refusal := gate.Credential(presented); refusal != nil || found == "" {
		return wrong()
	}
	x.Actor, err = p.config.Identities.ByKey(r, key)
	// Other refusals say more than that the key is wrong: too many failures, another network, no
	// answer of the store.
	if refusal, ok := errors.AsType[*gate.Refusal](err); ok && refusal.Status == http.StatusUnauthorized {
		return wrong()
	}
	if err != nil {
		return err
	}
	x.Actor.Request = x.Request
	if err := x.Actor.May(admin.PermissionAccess); err != nil {
		return err
	}
	if x.Service, err = p.config.Service(r.Context()); err != nil {
		return err
	}
	_ = x.Service.Allow(x.Actor, admin.PermissionAccess) // which it may, as of above; this notes it
	token := session.NewToken()
	// The session is written even if the browser goes away. Then nobody has its token, and it
	// expires.
	ctx, cancel := admin.Detached(r.Context())
	defer cancel()
	err = x.Service.Store.CreateSession(ctx, &store.Session{
		Digest: token.Digest(), Key: x.Actor.Key, ExpiresAt: p.config.Now().Add(session.Lifetime),
	})
	if errors.Is(err, store.ErrActorGone) {
		return wrong()
	}
	if err != nil {
		return err
	}
	if err := p.endSession(r, x); err != nil { // the one before
		return err
	}
	session.Set(w.Header(), token, p.scope(r))
	p.seeOther(w, p.config.Mount+p.base)
	return nil
}

// signOut ends a session. A browser without a session gets the same answer. It is a POST with a
// nonce: a link or an image of another site must not sign an admin out.
//
// The session is ended in the store first, and the cookie cleared then: a copy of the cookie
// must not work any more. If the store does not answer, the error is shown and the browser stays
// signed in.
func (p *Page) signOut(w http.ResponseWriter, r *http.Request, x *exchange) error {
	form, err := admin.ReadForm(w, r, "nonce")
	if err != nil {
		return err
	}
	err = x.enter(w, r)
	switch {
	case errors.Is(err, errSignedOut):
	case err != nil && !errors.Is(err, admin.ErrForbidden): // who may not see the page may leave it
		return err
	default:
		if _, err := x.checkNonce(form["nonce"]); err != nil {
			return err
		}
		if err := p.endSession(r, x); err != nil {
			return err
		}
	}
	session.Clear(w.Header(), p.scope(r))
	x.visit = nil
	p.render(w, r, x, http.StatusOK, ui.SignIn{Notice: "bye"})
	return nil
}

// endSession ends the session of the request, if it has one. The service must be known.
func (p *Page) endSession(r *http.Request, x *exchange) error {
	token, hasCookie := session.Read(r, p.scope(r))
	if !hasCookie {
		return nil
	}
	ctx, cancel := admin.Detached(r.Context())
	defer cancel()
	return x.Service.Store.EndSession(ctx, token.Digest())
}

// seeOther redirects a browser to a GET, so that a reload sends nothing again (RFC 9110 section
// 15.4.4). The location is the path of the page, and never a URL that the request names.
func (p *Page) seeOther(w http.ResponseWriter, location string) {
	secured(w.Header())
	w.Header().Set("Location", location)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusSeeOther)
}

// fail answers with a page that says what is wrong. Nobody signed in is no error but a form to
// sign in. The pages have texts for a few codes alone, so others are mapped to those by their
// status. The message of a refusal is for programs, in English, and is not shown.
func (p *Page) fail(w http.ResponseWriter, r *http.Request, x *exchange, refusal *gate.Refusal) {
	admin.SetFields(w, refusal)
	switch {
	case errors.Is(refusal.Err, errSignedOut), refusal.Status == http.StatusUnauthorized && x.visit != nil:
		p.askToSignIn(w, r, x)
		return
	case refusal.Status == http.StatusUnauthorized: // what the request itself has said is not good
		p.render(w, r, x, refusal.Status, ui.SignIn{Notice: "wrong", Failed: true})
		return
	}
	body := ui.Problem{Status: refusal.Status, Code: refusal.Code, RequestID: x.Request.ID}
	if lack, ok := errors.AsType[*admin.LackError](refusal); ok {
		body.Missing = lack.Permission
	}
	switch {
	case refusal.Status >= http.StatusInternalServerError:
		body.Code = "unavailable"
	case refusal.Status == http.StatusNotFound, refusal.Status == http.StatusMethodNotAllowed:
		body.Code = "not_found"
	case body.Code != "csrf" && body.Code != "cross_origin" && body.Code != "forbidden" && body.Code != "network_not_allowed":
		body.Code = "invalid_request"
	}
	p.render(w, r, x, refusal.Status, body)
}

// askToSignIn shows the sign-in form to a browser without a session. A visit without a cookie
// gets status 200, as for any page. A form that was sent in vain gets 401, and the text says
// that the session has ended. The page's script gets 401 as well, and asks the user itself.
func (p *Page) askToSignIn(w http.ResponseWriter, r *http.Request, x *exchange) {
	// A script does not get a whole page into a card: it shows that the session is over.
	_, hasCookie := session.Read(r, p.scope(r))
	if r.Header.Get(fragmentHeader) != "" {
		p.render(w, r, x, http.StatusUnauthorized, ui.Problem{Code: "session", Status: http.StatusUnauthorized})
		return
	}
	body, status := ui.SignIn{}, http.StatusOK
	w.Header().Del("Www-Authenticate") // it is a form that is asked for
	// The session is over or its key is gone. Without this the browser would send the cookie
	// again.
	if hasCookie {
		session.Clear(w.Header(), p.scope(r))
		body.Notice = "ended"
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		status = http.StatusUnauthorized
		body = ui.SignIn{Notice: "ended", Failed: true}
	}
	p.render(w, r, x, status, body)
}
