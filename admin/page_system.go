package admin

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin/ui"
	"github.com/lumio-vision/caddy-system-keys/internal/session"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// stateParameters are those of the page.
var stateParameters = []string{
	ui.ParamSort, ui.ParamSearch, ui.ParamUnused, ui.ParamPage, ui.ParamAfter, ui.ParamBefore,
	ui.ParamActivity, ui.ParamEvent, ui.ParamOlder, ui.ParamLanguage,
}

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
		if found.status < http.StatusInternalServerError {
			return "", err
		}
		status = found.status
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

// pageParameters are those that the page knows. Others may be somebody else's, and
// do no harm: it is a page and no API.
func pageParameters(r *http.Request) parameters {
	p, values := make(parameters), r.URL.Query()
	for _, name := range stateParameters {
		if values.Has(name) {
			p[name] = values.Get(name)
		}
	}
	return p
}

// stateOf reads what the admin is looking at. What makes no sense is as if it were
// not there.
func stateOf(p parameters) ui.State {
	s := ui.State{
		Sort: p[ui.ParamSort], Search: p[ui.ParamSearch], After: p[ui.ParamAfter], Before: p[ui.ParamBefore],
		Activity: p[ui.ParamActivity], Event: p[ui.ParamEvent], Older: p[ui.ParamOlder], Page: 1,
	}
	if p[ui.ParamUnused] == strconv.Itoa(ui.UnusedDays) {
		s.Unused = ui.UnusedDays
	}
	if n, err := strconv.Atoi(p[ui.ParamPage]); err == nil && n > 0 {
		s.Page = n
	}
	if _, _, ok := pageSort(s.Sort); !ok {
		s.Sort = ui.DefaultSort
	}
	if _, err := (parameters{"q": s.Search}).text("q"); err != nil {
		s.Search = ""
	}
	if _, ok := exactID(s.Activity); !ok {
		s.Activity = ""
	}
	if _, ok := exactID(s.Older); !ok {
		s.Older = ""
	}
	if !store.AuditEvent(s.Event).Valid() {
		s.Event = ""
	}
	return s
}

// keysCard is the list of keys, as the state has it.
func (p *page) keysCard(r *http.Request, x *exchange, state ui.State) (ui.Keys, error) {
	card := ui.Keys{
		State:     state,
		MayRead:   x.actor.may(PermissionRead) == nil,
		MayCreate: x.actor.may(PermissionCreate) == nil,
		MayRevoke: x.actor.may(PermissionDelete) == nil,
		MayAudit:  x.actor.may(PermissionAudit) == nil,
	}
	if !card.MayRead {
		return card, nil
	}
	query, back := keyQueryOf(&card.State, p.handler.config.Now())
	ctx, cancel := bounded(r.Context())
	defer cancel()
	found, err := x.service.List(ctx, x.actor, query)
	if err != nil {
		return card, err
	}
	next, prev := found.Next, found.Prev
	if back { // it was read the other way round
		slices.Reverse(found.Keys)
		next, prev = prev, next
	}
	card.Total = found.Total
	for i := range found.Keys {
		card.Keys = append(card.Keys, showKey(&found.Keys[i], x.actor.Key))
	}
	card.Next, card.Prev = cursorText(next), cursorText(prev)
	return card, nil
}

func cursorText(c *store.Cursor) string {
	if c == nil {
		return ""
	}
	return c.Encode()
}

// keyQueryOf is the query of a page of keys, and whether its rows come backwards.
// A cursor that does not fit is dropped, and the list starts at its beginning.
func keyQueryOf(state *ui.State, now time.Time) (query *store.KeyQuery, back bool) {
	query = &store.KeyQuery{Limit: ui.PageSize, Search: state.Search}
	query.Sort, query.Desc, _ = pageSort(state.Sort)
	if state.Unused > 0 {
		query.UnusedSince = now.AddDate(0, 0, -state.Unused)
	}
	var err error
	switch {
	case state.Before != "":
		if query.After, err = store.DecodeCursor(state.Before, query.Sort, !query.Desc); err == nil {
			query.Desc = !query.Desc
			return query, true
		}
	case state.After != "":
		if query.After, err = store.DecodeCursor(state.After, query.Sort, query.Desc); err == nil {
			return query, false
		}
	}
	state.Page, state.After, state.Before = 1, "", ""
	return query, false
}

// pageSort is [parameters.sort], with a column more: a list by permissions has no
// index, and is not offered to programs.
func pageSort(text string) (store.SortField, bool, bool) {
	if desc := text == "-"+string(store.SortPermissions); desc || text == string(store.SortPermissions) {
		return store.SortPermissions, desc, true
	}
	field, desc, err := parameters{"sort": text}.sort()
	return field, desc, err == nil
}

func showKey(k *store.Key, own store.ID) ui.Key {
	return ui.Key{
		ID: k.ID.String(), Label: k.Label, Permissions: k.Permissions, IsSystem: k.IsSystem,
		CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt, LastUsedAt: k.LastUsedAt, Own: k.ID == own,
	}
}

// fail answers with a page that says what is wrong.
func (p *page) fail(w http.ResponseWriter, r *http.Request, x *exchange, found *problem) {
	switch {
	case errors.Is(found.cause, errSignedOut), found.status == http.StatusUnauthorized && x.visit != nil:
		p.askToSignIn(w, r, x)
		return
	case found.status == http.StatusUnauthorized: // what the request itself has said is not good
		p.show(w, r, x, found.status, ui.SignIn{Notice: "wrong", Failed: true})
		return
	}
	body := ui.Problem{Status: found.status, Code: found.code, Missing: missing(found), RequestID: x.request.ID}
	switch {
	case found.status >= http.StatusInternalServerError:
		body.Code = "unavailable"
	case found.status == http.StatusNotFound, found.status == http.StatusMethodNotAllowed:
		body.Code = "not_found"
	case body.Code != "csrf" && body.Code != "cross_origin" && body.Code != "forbidden":
		body.Code = "invalid_request"
	}
	p.show(w, r, x, found.status, body)
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
func missing(found *problem) string {
	if lack, ok := errors.AsType[*lackError](found); ok {
		return lack.permission
	}
	return ""
}
