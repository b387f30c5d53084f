package admin

import (
	"errors"
	"net/http"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/admin/ui"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/session"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// signIn exchanges a key for a session.
func (p *page) signIn(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if err := x.sameSite(r); err != nil {
		return err
	}
	form, err := readForm(w, r, "key")
	if err != nil {
		return err
	}
	key := strings.TrimSpace(form["key"])
	// As if it had come in the header: one place says what is a key.
	presented := r.Clone(r.Context())
	presented.Header = http.Header{"Authorization": {"Bearer " + key}}
	presented.URL.RawQuery = ""
	if found, refusal := gate.Credential(presented); refusal != nil || found == "" {
		p.show(w, r, x, http.StatusUnauthorized, ui.SignIn{Notice: "wrong", Failed: true})
		return nil
	}
	actor, err := p.handler.config.Identities.byKey(r, key)
	if wrong, ok := errors.AsType[*gate.Refusal](err); ok && wrong.Status == http.StatusUnauthorized {
		p.show(w, r, x, http.StatusUnauthorized, ui.SignIn{Notice: "wrong", Failed: true})
		return nil
	}
	if err != nil {
		return err
	}
	actor.Request = x.request
	x.actor = actor
	if err := actor.may(PermissionAccess); err != nil {
		return err
	}
	if x.service, err = p.handler.config.Service(r.Context()); err != nil {
		return err
	}
	token := session.NewToken()
	ctx, cancel := detached(r.Context())
	defer cancel()
	err = x.service.Store.CreateSession(ctx, &store.Session{
		Digest: token.Digest(), Key: actor.Key, ExpiresAt: p.handler.config.Now().Add(session.Lifetime),
	})
	if errors.Is(err, store.ErrActorGone) {
		p.show(w, r, x, http.StatusUnauthorized, ui.SignIn{Notice: "wrong", Failed: true})
		return nil
	}
	if err != nil {
		return err
	}
	secure := p.handler.secure(r)
	if err := p.end(r, x); err != nil { // the one before
		return err
	}
	session.Set(w.Header(), token, secure)
	p.seeOther(w, p.base)
	return nil
}

// signOut ends a session. The answer is the same for who has none.
func (p *page) signOut(w http.ResponseWriter, r *http.Request, x *exchange) error {
	form, err := readForm(w, r, "nonce")
	if err != nil {
		return err
	}
	err = x.enter(w, r)
	switch {
	case errors.Is(err, errSignedOut):
	case err != nil && !errors.Is(err, ErrForbidden): // who may not see the page may leave it
		return err
	default:
		if err := x.checkNonce(form["nonce"]); err != nil {
			return err
		}
		if err := p.end(r, x); err != nil {
			return err
		}
	}
	session.Clear(w.Header(), p.handler.secure(r))
	x.visit = nil
	p.show(w, r, x, http.StatusOK, ui.SignIn{Notice: "bye"})
	return nil
}

// end ends the session of the request, if it has one.
func (p *page) end(r *http.Request, x *exchange) error {
	token, held := session.Read(r, p.handler.secure(r))
	if !held {
		return nil
	}
	ctx, cancel := detached(r.Context())
	defer cancel()
	return x.service.Store.EndSession(ctx, token.Digest())
}

// seeOther leads a browser on by GET, so that reloading sends nothing again.
func (p *page) seeOther(w http.ResponseWriter, location string) {
	secured(w.Header())
	w.Header().Set("Location", location)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusSeeOther)
}
