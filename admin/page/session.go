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

// signIn exchanges a key for a session.
func (p *Page) signIn(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if err := x.SameSite(r); err != nil {
		return err
	}
	form, err := admin.ReadForm(w, r, "key")
	if err != nil {
		return err
	}
	key := strings.TrimSpace(form["key"])
	// The key is checked as if it had come in the header. So one place decides what is
	// a key.
	presented := r.Clone(r.Context())
	presented.Header = http.Header{"Authorization": {"Bearer " + key}}
	presented.URL.RawQuery = ""
	if found, refusal := gate.Credential(presented); refusal != nil || found == "" {
		p.show(w, r, x, http.StatusUnauthorized, ui.SignIn{Notice: "wrong", Failed: true})
		return nil
	}
	actor, err := p.config.Identities.ByKey(r, key)
	if wrong, ok := errors.AsType[*gate.Refusal](err); ok && wrong.Status == http.StatusUnauthorized {
		p.show(w, r, x, http.StatusUnauthorized, ui.SignIn{Notice: "wrong", Failed: true})
		return nil
	}
	if err != nil {
		return err
	}
	actor.Request = x.Request
	x.Actor = actor
	if err := actor.May(admin.PermissionAccess); err != nil {
		return err
	}
	if x.Service, err = p.config.Service(r.Context()); err != nil {
		return err
	}
	token := session.NewToken()
	ctx, cancel := admin.Detached(r.Context())
	defer cancel()
	err = x.Service.Store.CreateSession(ctx, &store.Session{
		Digest: token.Digest(), Key: actor.Key, ExpiresAt: p.config.Now().Add(session.Lifetime),
	})
	if errors.Is(err, store.ErrActorGone) {
		p.show(w, r, x, http.StatusUnauthorized, ui.SignIn{Notice: "wrong", Failed: true})
		return nil
	}
	if err != nil {
		return err
	}
	secure := p.secure(r)
	if err := p.end(r, x); err != nil { // the one before
		return err
	}
	session.Set(w.Header(), token, secure)
	p.seeOther(w, p.base)
	return nil
}

// signOut ends a session. A browser without a session gets the same answer.
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
		if err := x.checkNonce(form["nonce"]); err != nil {
			return err
		}
		if err := p.end(r, x); err != nil {
			return err
		}
	}
	session.Clear(w.Header(), p.secure(r))
	x.visit = nil
	p.show(w, r, x, http.StatusOK, ui.SignIn{Notice: "bye"})
	return nil
}

// end ends the session of the request, if it has one.
func (p *Page) end(r *http.Request, x *exchange) error {
	token, held := session.Read(r, p.secure(r))
	if !held {
		return nil
	}
	ctx, cancel := admin.Detached(r.Context())
	defer cancel()
	return x.Service.Store.EndSession(ctx, token.Digest())
}

// seeOther redirects a browser to a GET, so that a reload sends nothing again.
func (p *Page) seeOther(w http.ResponseWriter, location string) {
	secured(w.Header())
	w.Header().Set("Location", location)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusSeeOther)
}

// fail answers with a page that says what is wrong.
func (p *Page) fail(w http.ResponseWriter, r *http.Request, x *exchange, found *gate.Refusal) {
	admin.SetFields(w, found)
	switch {
	case errors.Is(found.Err, errSignedOut), found.Status == http.StatusUnauthorized && x.visit != nil:
		p.askToSignIn(w, r, x)
		return
	case found.Status == http.StatusUnauthorized: // what the request itself has said is not good
		p.show(w, r, x, found.Status, ui.SignIn{Notice: "wrong", Failed: true})
		return
	}
	body := ui.Problem{Status: found.Status, Code: found.Code, Missing: missing(found), RequestID: x.Request.ID}
	switch {
	case found.Status >= http.StatusInternalServerError:
		body.Code = "unavailable"
	case found.Status == http.StatusNotFound, found.Status == http.StatusMethodNotAllowed:
		body.Code = "not_found"
	case body.Code != "csrf" && body.Code != "cross_origin" && body.Code != "forbidden":
		body.Code = "invalid_request"
	}
	p.show(w, r, x, found.Status, body)
}

// askToSignIn shows the sign-in form to a browser without a session.
func (p *Page) askToSignIn(w http.ResponseWriter, r *http.Request, x *exchange) {
	secure := p.secure(r)
	_, held := session.Read(r, secure)
	if r.Header.Get(fragmentHeader) != "" {
		p.show(w, r, x, http.StatusUnauthorized, ui.Problem{Code: "session", Status: http.StatusUnauthorized})
		return
	}
	body, status := ui.SignIn{}, http.StatusOK
	w.Header().Del("Www-Authenticate") // it is a form that is asked for
	if held {
		session.Clear(w.Header(), secure)
		body.Notice = "ended"
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		status = http.StatusUnauthorized
		body = ui.SignIn{Notice: "ended", Failed: true}
	}
	p.show(w, r, x, status, body)
}

// missing is the permission that the caller lacks, or empty.
func missing(found *gate.Refusal) string {
	if lack, ok := errors.AsType[*admin.LackError](found); ok {
		return lack.Permission
	}
	return ""
}
