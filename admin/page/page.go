// Package page is the System page: keys and the audit log in a browser.
//
// Its one idea: the page is a client of [admin.Service] and has no rule of its own. What an
// admin may do, the service decides, as for the REST API. The page adds what a browser needs.
// That is a session in place of a key, protection against forged requests, and answers that a
// person can read.
//
// Every page works without scripts, by forms and links. A script replaces a card or a dialog in
// place, and asks for it by a header field: see [fragmentHeader]. So both ways have the same
// handlers, the same checks and the same HTML.
//
// # Forged requests
//
// A page of another site can make a browser send a request with its cookies (CSRF). Three things
// stand against it. The cookie is SameSite=Strict. [admin.Exchange.SameSite] looks at where the
// browser says that the request comes from. A form has a nonce of the session. A form that
// creates something spends its nonce, so a reload creates nothing again.
//
// # Secrets
//
// A key in clear is in one answer, under a POST, which no cache keeps. It is never in a URL,
// since those are in histories, logs and the field Referer.
//
// # Files
//
// page.go has the routes. visit.go finds out who looks at the page, and session.go lets people
// in and out. system.go is the page itself, and state.go reads its URL. create.go, rotate.go and
// revoke.go are the dialogs. Package ui draws all of it.
package page

import (
	"net/http"
	"path"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/admin/page/ui"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/session"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Page is the System page and its API. It is a surface of the admin plane. It is immutable after
// [New], and safe for concurrent use: what belongs to a request is in its exchange.
type Page struct {
	config admin.Config
	base   string
	ui     *ui.UI
	routes map[string]*admin.Route
	// key, ask, revoke, askRotation and rotation are the routes of one key, and asset that of
	// all assets.
	key, ask, revoke, askRotation, rotation, asset *admin.Route
	// pages are the routes whose errors are pages.
	pages map[*admin.Route]bool
}

// New makes the page at the path that the configuration names. It parses all templates, and
// panics if one is wrong, since they are part of the program.
//
// The paths have two parents. Pages are below the path of the page. What is done to keys is
// below [admin.APIPath], which answers JSON to scripts, and a page to a form. A route has a
// sentence that tells a client with another method what can be done there.
func New(config admin.Config) *Page {
	base := config.Page
	p := &Page{config: config, base: base, ui: ui.New(config.Mount, base), pages: make(map[*admin.Route]bool)}
	// A route of pages takes forms, and its errors are pages.
	html := func(only string, calls map[string]call) *admin.Route {
		route := &admin.Route{Calls: make(map[string]admin.Call, len(calls)), Only: only, Form: true}
		for method, do := range calls {
			route.Calls[method] = p.html(do)
		}
		p.pages[route] = true
		return route
	}
	p.routes = map[string]*admin.Route{
		base: html("the System page can be read", map[string]call{
			http.MethodGet: p.system, http.MethodHead: p.system,
		}),
		base + "/session":     html("one signs in here", map[string]call{http.MethodPost: p.signIn}),
		base + "/session/end": html("one signs out here", map[string]call{http.MethodPost: p.signOut}),
		base + "/create":      html("the form for a new key can be read", map[string]call{http.MethodGet: p.askCreate}),
		admin.APIPath: {
			Calls: map[string]admin.Call{
				http.MethodGet: p.visited(admin.ListKeys), http.MethodHead: p.visited(admin.ListKeys), http.MethodPost: p.create,
			},
			Only: "keys can be listed and created here", Produces: admin.KeysRoute.Produces, Form: true,
		},
	}
	// These name a key, so their paths are found by [Page.Route].
	p.key = &admin.Route{
		Calls: map[string]admin.Call{
			http.MethodGet: p.visited(admin.GetKey), http.MethodHead: p.visited(admin.GetKey), http.MethodDelete: p.visited(admin.RevokeKey),
		},
		Only: admin.KeyRoute.Only, Produces: admin.KeyRoute.Produces,
	}
	// Each dialog has two paths: one to ask, which changes nothing, and one to do it, which
	// takes a POST.
	p.ask = html("the form to revoke a key can be read", map[string]call{http.MethodGet: p.askRevoke})
	p.revoke = html("a key is revoked here", map[string]call{http.MethodPost: p.revokeKey})
	p.askRotation = html("the form to rotate a key can be read", map[string]call{http.MethodGet: p.askRotate})
	p.rotation = &admin.Route{
		Calls: map[string]admin.Call{http.MethodPost: p.rotate},
		Only:  "a key is rotated here", Produces: admin.KeyRoute.Produces, Form: true, NoBody: true,
	}
	p.asset = html("assets can be read", map[string]call{http.MethodGet: p.serveAsset, http.MethodHead: p.serveAsset})
	return p
}

// exchange is a request of a browser, with what the page knows beside the admin plane. It
// belongs to one request.
type exchange struct {
	*admin.Exchange
	page  *Page
	visit *visit // nil until it is known whose browser it is
}

// call answers a browser, or returns an error for the answer. A call that returns an error must
// not have written anything yet.
type call func(w http.ResponseWriter, r *http.Request, x *exchange) error

// html makes a call whose errors are pages. It returns no error: an error is reported and
// answered here.
func (p *Page) html(do call) admin.Call {
	return func(w http.ResponseWriter, r *http.Request, outer *admin.Exchange) error {
		x := &exchange{Exchange: outer, page: p}
		if err := do(w, r, x); err != nil { // here, where it is known who is signed in
			p.fail(w, r, x, x.Report(r, err))
		}
		return nil
	}
}

// Fail implements [admin.Surface]. The answer is a page for an error under a route whose errors
// are pages, for a form, and for a path below the page that names nothing. These are errors from
// before a call: a wrong method, a wrong host, no such path. All others get JSON.
func (p *Page) Fail(w http.ResponseWriter, r *http.Request, x *admin.Exchange, refusal *gate.Refusal) bool {
	switch {
	// The page's own API is for scripts. They get JSON, also for a path that names nothing.
	case x.Route == nil && admin.IsBelow(r.URL.Path, p.config.Base+p.base), p.pages[x.Route], (x.Route == p.routes[admin.APIPath] || x.Route == p.rotation) && admin.IsForm(r):
		p.fail(w, r, &exchange{Exchange: x, page: p}, refusal)
		return true
	}
	return false
}

// Route implements [admin.Surface]. The path is as it was sent, without the base. It is compared
// as it is, so another spelling names nothing. Only the path of an asset, and an id in it, may be
// spelled in several ways.
func (p *Page) Route(escaped string) (*admin.Route, store.ID, bool) {
	if route, ok := p.routes[escaped]; ok {
		return route, store.ID{}, true
	}
	if path.Dir(escaped) == p.base+"/assets" {
		return p.asset, store.ID{}, true
	}
	// below returns the id of the key between the prefix and the suffix.
	below := func(prefix, suffix string) (store.ID, bool) {
		text, found := strings.CutPrefix(escaped, prefix+"/")
		text, ends := strings.CutSuffix(text, suffix)
		id, err := store.ParseKeyID(text)
		return id, found && ends && err == nil
	}
	if id, ok := below(p.base+"/keys", "/revoke"); ok {
		return p.ask, id, true
	}
	if id, ok := below(admin.APIPath, "/revoke"); ok {
		return p.revoke, id, true
	}
	if id, ok := below(p.base+"/keys", "/rotate"); ok {
		return p.askRotation, id, true
	}
	if id, ok := below(admin.APIPath, "/rotate"); ok {
		return p.rotation, id, true
	}
	id, ok := below(admin.APIPath, "")
	return p.key, id, ok
}

// serveAsset answers with a file of the page. The files are open to all: the sign-in form needs
// them, and they are the same for everybody.
func (p *Page) serveAsset(w http.ResponseWriter, r *http.Request, x *exchange) error {
	secured(w.Header())
	if !p.ui.Asset(w, r, path.Base(r.URL.EscapedPath())) {
		return admin.NotFound()
	}
	return nil
}

// contentSecurityPolicy allows only what comes from this host (https://www.w3.org/TR/CSP3/). A
// label is text that others have chosen. If it ever got into the page unescaped, no script or
// style in it would run, and no form would go elsewhere. Nobody can frame the page, to make an
// admin click on what they do not see.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// secured sets the fields that keep other sites out of the page. Every answer of the page has
// them, redirects and assets included.
func secured(h http.Header) {
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// no-referrer would make browsers send "Origin: null" with forms
	// (https://fetch.spec.whatwg.org/#append-a-request-origin-header).
	h.Set("Referrer-Policy", "same-origin")
	// A window that opens the page gets no handle to it, and no other site can load a part of
	// it.
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// fragmentHeader names the part of the page that the page's script wants. A script of another
// site cannot send it without a CORS preflight, which nothing here answers. It is also in Vary:
// a browser must not show a fragment from its memory as a page.
const fragmentHeader = "X-Fragment"

// render answers with a page, or with the part of it that the script wants. It sends the status,
// so call it once. Header fields of the caller must be set before. No cache may keep the answer:
// it may hold a key in clear, and says who is signed in.
func (p *Page) render(w http.ResponseWriter, r *http.Request, x *exchange, status int, body ui.Body) {
	h := w.Header()
	secured(h)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Cookie, Accept-Language, "+fragmentHeader)
	frame := p.frame(r, x)
	h.Set("Content-Language", string(frame.Language))
	// Nothing can be changed from here on.
	w.WriteHeader(status)
	// If either fails the client is gone.
	if r.Header.Get(fragmentHeader) != "" {
		_ = p.ui.Fragment(w, frame, body)
		return
	}
	_ = p.ui.Page(w, frame, body)
}

// frame is what surrounds the content, by who is signed in. Only a session can be ended by a
// click. An admin whom the request itself names gets no form to sign out.
func (p *Page) frame(r *http.Request, x *exchange) ui.Frame {
	frame := ui.Frame{Language: p.languageOf(r), Now: p.config.Now()}
	if x.visit == nil {
		return frame
	}
	if frame.Who = x.Actor.Label; frame.Who == "" {
		frame.Who = x.Actor.Name
	}
	if x.visit.session {
		frame.SignOut = x.nonce()
	}
	return frame
}

// languageOf is the language that the browser has chosen on the page, or else the one
// that it prefers.
//
// The choice is a cookie, so it also holds for the form to sign in.
func (p *Page) languageOf(r *http.Request) ui.Language {
	return ui.Choose(session.Language(r, p.scope(r)), r.Header.Get("Accept-Language"))
}
