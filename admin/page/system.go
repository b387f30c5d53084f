package page

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/admin/page/ui"
	"github.com/lumio-vision/caddy-system-keys/internal/session"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// system shows the page, or one of its cards. A parameter with a language sets a cookie, and a
// redirect takes it out of the URL again. That needs nobody signed in: the form to sign in has
// the choice, too.
func (p *Page) system(w http.ResponseWriter, r *http.Request, x *exchange) error {
	// The language comes first: it needs nobody who is signed in.
	parameters := pageParameters(r)
	if chosen, ok := parameters[ui.ParamLanguage]; ok {
		session.SetLanguage(w.Header(), string(ui.Choose(chosen, "")), p.scope(r))
		p.seeOther(w, p.config.Mount+p.base)
		return nil
	}
	if p.cameFromElsewhere(w, r) {
		return nil
	}
	if err := x.enter(w, r); err != nil {
		return err
	}
	// From here on only values that make sense are used.
	state := stateOf(parameters)
	var card ui.Body
	var err error
	switch r.Header.Get(fragmentHeader) { // the script replaces one card
	case "keys":
		card, err = p.keysCard(r, x, state)
	case "audit":
		card, err = p.auditCard(r, x, state)
	default:
		return p.renderBoth(w, r, x, state)
	}
	if err != nil {
		return err
	}
	p.render(w, r, x, http.StatusOK, card)
	return nil
}

// renderBoth shows the page with both cards. A card that cannot be read says so in its place,
// and the status is that of the fault. A refusal is no fault of a card, and is the answer as a
// whole.
func (p *Page) renderBoth(w http.ResponseWriter, r *http.Request, x *exchange, state ui.State) error {
	status := http.StatusOK
	fault := func(err error) (string, error) {
		refusal := x.Report(r, err)
		if refusal.Status < http.StatusInternalServerError {
			return "", err
		}
		status = refusal.Status
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
	p.render(w, r, x, status, ui.System{Keys: keys, Audit: audit})
	return nil
}

// cameFromElsewhere makes a browser that follows a link of another site load the page
// again. The second request comes from this site, so that the browser sends the cookie
// in spite of SameSite=Strict (RFC 6265bis, section 8.8.2).
//
// Without it an admin who follows a link in a chat would be asked to sign in again. The page
// that reloads shows nothing, so the other site gains nothing by the link.
func (p *Page) cameFromElsewhere(w http.ResponseWriter, r *http.Request) bool {
	if _, hasCookie := session.Read(r, p.scope(r)); hasCookie || r.Header.Get("Sec-Fetch-Site") != "cross-site" ||
		r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.Header.Get("Authorization") != "" {
		return false
	}
	secured(w.Header())
	w.Header().Set("Refresh", "0")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return true
}

// keysCard reads the list of keys that the state asks for. Without the permission to read keys
// the card is empty and says so. After an error the card still has what the actor may do.
func (p *Page) keysCard(r *http.Request, x *exchange, state ui.State) (ui.Keys, error) {
	card := ui.Keys{
		State:     state,
		MayRead:   x.Actor.May(admin.PermissionRead) == nil,
		MayCreate: x.Actor.May(admin.PermissionCreate) == nil,
		MayRevoke: x.Actor.May(admin.PermissionDelete) == nil,
		MayAudit:  x.Actor.May(admin.PermissionAudit) == nil,
	}
	if !card.MayRead {
		return card, nil
	}
	query, backwards := keyQueryOf(&card.State, p.config.Now())
	ctx, cancel := admin.Bounded(r.Context())
	defer cancel()
	page, err := x.Service.List(ctx, x.Actor, query)
	if err != nil {
		return card, err
	}
	card.Total = page.Total
	if card.State.Before == ui.End { // the last page has as many rows as if it was reached by the others
		card.State.Page = card.Pages()
		if n := card.LastRows(); n < len(page.Keys) {
			page.Keys, page.Next = page.Keys[:n], store.CursorAt(&page.Keys[n-1], query.Sort, query.Desc)
		}
	}
	next, prev := page.Next, page.Prev
	if backwards { // the rows come in reverse order
		slices.Reverse(page.Keys)
		next, prev = prev, next
	}
	for i := range page.Keys {
		card.Keys = append(card.Keys, ui.Key{Key: &page.Keys[i], Own: page.Keys[i].ID == x.Actor.Key})
	}
	if err := p.relate(ctx, x, card.Keys); err != nil {
		return card, err
	}
	card.Next, card.Prev = admin.CursorText(next), admin.CursorText(prev)
	return card, nil
}

// auditCard reads the newest records that the state asks for. If they are about one key, and the
// actor may read keys, the card also has what that key is used for.
func (p *Page) auditCard(r *http.Request, x *exchange, state ui.State) (ui.Audit, error) {
	card := ui.Audit{State: state, Events: store.AuditEvents, MayRead: x.Actor.May(admin.PermissionAudit) == nil}
	if !card.MayRead {
		return card, nil
	}
	query := &store.AuditQuery{Limit: store.DefaultLimit, Event: store.AuditEvent(state.Event)}
	query.Key, _ = store.ParseID(state.Activity)
	query.Before, _ = store.ParseID(state.Older)
	ctx, cancel := admin.Bounded(r.Context())
	defer cancel()
	page, err := x.Service.AuditLog(ctx, x.Actor, query)
	if err != nil {
		return card, err
	}
	card.Total, card.More, card.Next = page.Total, page.More, admin.AuditCursor(page)
	for i := range page.Records {
		card.Records = append(card.Records, ui.Record{AuditRecord: &page.Records[i]})
	}
	if state.Activity == "" {
		return card, nil
	}
	if x.Actor.May(admin.PermissionRead) == nil {
		key, activity, err := x.Service.Activity(ctx, x.Actor, query.Key)
		switch {
		case err == nil:
			card.Use = &ui.Use{Key: key, Activity: activity, Now: p.config.Now()}
			if card.Use.Successor, err = successorUse(ctx, x, key); err != nil {
				return card, err
			}
		case !errors.Is(err, store.ErrNotFound): // the records of a key outlive it
			return card, err
		}
	}
	// The card names the key whose records it shows: by a record, or else by the row.
	for _, record := range card.Records {
		if card.Label = record.Key.Label; card.Label != "" {
			return card, nil
		}
	}
	if key, err := x.Service.Store.Key(ctx, query.Key); err == nil && x.Actor.May(admin.PermissionRead) == nil {
		card.Label = key.Label // of a key that was never used, created by plain SQL
	}
	return card, nil
}

// successorUse is what the successor of a key is used for. It is nil if there is none, or none
// any more.
//
// Side by side they show whether everybody uses the new key by now.
func successorUse(ctx context.Context, x *exchange, key *store.Key) (*store.Activity, error) {
	if key.ReplacedBy == (store.ID{}) {
		return nil, nil
	}
	_, activity, err := x.Service.Activity(ctx, x.Actor, key.ReplacedBy)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return activity, err
}
