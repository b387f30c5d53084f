package admin

import (
	"net/http"
	"path"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/admin/ui"
	"github.com/lumio-vision/caddy-system-keys/internal/session"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// DefaultPage is where the System page is.
const DefaultPage = "/system"

// apiPath is the page's own API.
const apiPath = "/api/system-keys"

// page is the System page, and what it calls.
type page struct {
	handler *Handler
	base    string
	ui      *ui.UI
	routes  map[string]*route
	// key and the others are routes below a key.
	key, ask, revoke, asset *route
}

func newPage(h *Handler, base string) *page {
	p := &page{handler: h, base: base, ui: ui.New(base)}
	html := func(only string, calls map[string]call) *route {
		return &route{calls: calls, only: only, page: p, form: true}
	}
	signIn := html("one signs in here", map[string]call{http.MethodPost: p.signIn})
	p.routes = map[string]*route{
		base: html("the System page can be read", map[string]call{
			http.MethodGet: p.system, http.MethodHead: p.system,
		}),
		base + "/session":     signIn,
		base + "/session/end": html("one signs out here", map[string]call{http.MethodPost: p.signOut}),
		base + "/create":      html("the form for a new key can be read", map[string]call{http.MethodGet: p.askCreate}),
		apiPath: {
			calls: map[string]call{
				http.MethodGet: p.visited(list), http.MethodHead: p.visited(list), http.MethodPost: p.create,
			},
			only: keysRoute.only, produces: []string{mediaJSON}, form: true, page: p,
		},
	}
	p.key = &route{
		calls: map[string]call{
			http.MethodGet: p.visited(get), http.MethodHead: p.visited(get), http.MethodDelete: p.visited(revoke),
		},
		only: keyRoute.only, produces: keyRoute.produces,
	}
	p.ask = html("the form to revoke a key can be read", map[string]call{http.MethodGet: p.askRevoke})
	p.revoke = html("a key is revoked here", map[string]call{http.MethodPost: p.revokeKey})
	p.asset = html("assets can be read", map[string]call{http.MethodGet: p.serveAsset, http.MethodHead: p.serveAsset})
	return p
}

// owns reports whether a cleaned path is one of the page's, in any case.
func (p *page) owns(cleaned string) bool {
	return isBelow(cleaned, p.base)
}

// answers reports whether errors of a route are pages: of what a browser asks for,
// and of what is not there below the path of the page.
func (p *page) answers(r *http.Request, of *route) bool {
	switch {
	case p == nil:
		return false
	case of == nil:
		return p.owns(r.URL.Path)
	}
	return of.page != nil && (of.produces == nil || isForm(r))
}

// route finds what a path names. It must be spelled exactly.
func (p *page) route(escaped string) (*route, store.ID, bool) {
	if r, ok := p.routes[escaped]; ok {
		return r, store.ID{}, true
	}
	if path.Dir(escaped) == p.base+"/assets" {
		return p.asset, store.ID{}, true
	}
	below := func(prefix, suffix string) (store.ID, bool) {
		text, found := strings.CutPrefix(escaped, prefix+"/")
		text, ends := strings.CutSuffix(text, suffix)
		id, err := store.ParseID(text)
		return id, found && ends && err == nil
	}
	if id, ok := below(p.base+"/keys", "/revoke"); ok {
		return p.ask, id, true
	}
	if id, ok := below(apiPath, "/revoke"); ok {
		return p.revoke, id, true
	}
	id, ok := below(apiPath, "")
	return p.key, id, ok
}

func (p *page) serveAsset(w http.ResponseWriter, r *http.Request, x *exchange) error {
	secured(w.Header())
	if !p.ui.Asset(w, r, path.Base(r.URL.EscapedPath())) {
		return notFound()
	}
	return nil
}

// contentSecurityPolicy lets nothing into the page that is not of the page
// (https://www.w3.org/TR/CSP3/).
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// secured sets what keeps other sites out of the page.
func secured(h http.Header) {
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// Not no-referrer, which makes browsers send "Origin: null" with forms
	// (https://fetch.spec.whatwg.org/#append-a-request-origin-header).
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// fragmentHeader is sent by the page's script: the part of the page that it wants.
// Another site cannot send it without being asked first (CORS).
const fragmentHeader = "X-Fragment"

// show answers with a page, or with the part of it that was asked for.
func (p *page) show(w http.ResponseWriter, r *http.Request, x *exchange, status int, body ui.Body) {
	h := w.Header()
	secured(h)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Cookie, Accept-Language, "+fragmentHeader)
	frame := p.frame(r, x)
	h.Set("Content-Language", string(frame.Language))
	w.WriteHeader(status)
	// If either fails the client is gone.
	if r.Header.Get(fragmentHeader) != "" {
		_ = p.ui.Fragment(w, frame, body)
		return
	}
	_ = p.ui.Page(w, frame, body)
}

func (p *page) frame(r *http.Request, x *exchange) ui.Frame {
	now := p.handler.config.Now()
	frame := ui.Frame{Language: languageOf(r), Now: now}
	if x.visit == nil {
		return frame
	}
	if frame.Who = x.actor.Label; frame.Who == "" {
		frame.Who = x.actor.Name
	}
	if x.visit.session {
		frame.SignOut = x.nonce()
	}
	return frame
}

func languageOf(r *http.Request) ui.Language {
	chosen := ""
	if cookie, err := r.Cookie(session.CookieLanguage); err == nil {
		chosen = cookie.Value
	}
	return ui.Choose(chosen, r.Header.Get("Accept-Language"))
}
