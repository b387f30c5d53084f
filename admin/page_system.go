package admin

import (
	"net/http"

	"github.com/lumio-vision/caddy-system-keys/admin/ui"
	"github.com/lumio-vision/caddy-system-keys/internal/session"
)

// system is the page itself, or one of its cards.
func (p *page) system(w http.ResponseWriter, r *http.Request, x *exchange) error {
	parameters := pageParameters(r)
	if chosen, ok := parameters[ui.ParamLanguage]; ok {
		session.SetLanguage(w.Header(), string(ui.Choose(chosen, "")), p.handler.secure(r))
		p.seeOther(w, p.base)
		return nil
	}
	if p.cameFromElsewhere(w, r) {
		return nil
	}
	if err := x.enter(w, r); err != nil {
		return err
	}
	state := stateOf(parameters)
	switch r.Header.Get(fragmentHeader) {
	case "keys":
		card, err := p.keysCard(r, x, state)
		if err != nil {
			return err
		}
		p.show(w, r, x, http.StatusOK, card)
	case "audit":
		card, err := p.auditCard(r, x, state)
		if err != nil {
			return err
		}
		p.show(w, r, x, http.StatusOK, card)
	default:
		return p.both(w, r, x, state)
	}
	return nil
}

// both shows the page with both cards. One that cannot be had says so in its
// place.
func (p *page) both(w http.ResponseWriter, r *http.Request, x *exchange, state ui.State) error {
	status := http.StatusOK
	fault := func(err error) (string, error) {
		found := p.handler.report(r, x, err)
		if found.Status < http.StatusInternalServerError {
			return "", err
		}
		status = found.Status
		w.Header().Set("Retry-After", "1")
		return "unavailable", nil
	}
	keys, err := p.keysCard(r, x, state)
	if err != nil {
		if keys.Fault, err = fault(err); err != nil {
			return err
		}
	}
	audit, err := p.auditCard(r, x, state)
	if err != nil {
		if audit.Fault, err = fault(err); err != nil {
			return err
		}
	}
	p.show(w, r, x, status, ui.System{Keys: keys, Audit: audit})
	return nil
}

// cameFromElsewhere lets a browser that follows a link of another site come once
// more, from here: with SameSite=Strict it sends the cookie then (RFC 6265bis,
// section 8.8.2).
func (p *page) cameFromElsewhere(w http.ResponseWriter, r *http.Request) bool {
	if _, held := session.Read(r, p.handler.secure(r)); held || r.Header.Get("Sec-Fetch-Site") != "cross-site" ||
		r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.Header.Get("Authorization") != "" {
		return false
	}
	secured(w.Header())
	w.Header().Set("Refresh", "0")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return true
}
