package admin

import (
	"net/http"

	"github.com/lumio-vision/caddy-system-keys/admin/ui"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// auditCard is the newest records, as the state has them.
func (p *page) auditCard(r *http.Request, x *exchange, state ui.State) (ui.Audit, error) {
	card := ui.Audit{State: state, Events: store.AuditEvents, MayRead: x.actor.may(PermissionAudit) == nil}
	if !card.MayRead {
		return card, nil
	}
	query := &store.AuditQuery{Limit: store.DefaultLimit, Event: store.AuditEvent(state.Event)}
	query.Key, _ = store.ParseID(state.Activity)
	query.Before, _ = store.ParseID(state.Older)
	ctx, cancel := bounded(r.Context())
	defer cancel()
	found, err := x.service.AuditLog(ctx, x.actor, query)
	if err != nil {
		return card, err
	}
	card.Total, card.More, card.Next = found.Total, found.More, auditCursor(found)
	for i := range found.Records {
		card.Records = append(card.Records, ui.Record{AuditRecord: &found.Records[i]})
	}
	if state.Activity == "" {
		return card, nil
	}
	for _, record := range card.Records {
		if card.Label = record.Key.Label; card.Label != "" {
			return card, nil
		}
	}
	if key, err := x.service.Store.Key(ctx, query.Key); err == nil && x.actor.may(PermissionRead) == nil {
		card.Label = key.Label // of a key that was never used, created by plain SQL
	}
	return card, nil
}
