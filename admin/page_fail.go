package admin

import (
	"errors"
	"net/http"

	"github.com/lumio-vision/caddy-system-keys/admin/ui"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/session"
)

// fail answers with a page that says what is wrong.
func (p *page) fail(w http.ResponseWriter, r *http.Request, x *exchange, found *gate.Refusal) {
	switch {
	case errors.Is(found.Err, errSignedOut), found.Status == http.StatusUnauthorized && x.visit != nil:
		p.askToSignIn(w, r, x)
		return
	case found.Status == http.StatusUnauthorized: // what the request itself has said is not good
		p.show(w, r, x, found.Status, ui.SignIn{Notice: "wrong", Failed: true})
		return
	}
	body := ui.Problem{Status: found.Status, Code: found.Code, Missing: missing(found), RequestID: x.request.ID}
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

// askToSignIn shows the form to who has no session, or no more.
func (p *page) askToSignIn(w http.ResponseWriter, r *http.Request, x *exchange) {
	secure := p.handler.secure(r)
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

// missing is the permission whose lack is the problem.
func missing(found *gate.Refusal) string {
	if lack, ok := errors.AsType[*lackError](found); ok {
		return lack.permission
	}
	return ""
}
