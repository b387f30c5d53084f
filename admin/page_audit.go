package admin

import (
	"encoding/json"
	"net/http"

	"github.com/lumio-vision/caddy-system-keys/admin/ui"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// auditCard is the newest records, as the state has them.
func (p *page) auditCard(r *http.Request, x *exchange, state ui.State) (ui.Audit, error) {
	card := ui.Audit{State: state, MayRead: x.actor.may(PermissionAudit) == nil}
	for _, event := range store.AuditEvents {
		card.Events = append(card.Events, string(event))
	}
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
		card.Records = append(card.Records, showRecord(&found.Records[i]))
	}
	if state.Activity == "" {
		return card, nil
	}
	for _, record := range card.Records {
		if card.Label = record.KeyLabel; card.Label != "" {
			return card, nil
		}
	}
	if key, err := x.service.Store.Key(ctx, query.Key); err == nil && x.actor.may(PermissionRead) == nil {
		card.Label = key.Label // of a key that was never used, created by plain SQL
	}
	return card, nil
}

func showRecord(r *store.AuditRecord) ui.Record {
	shown := ui.Record{
		ID: r.ID.String(), Event: string(r.Event), At: r.At, KeyLabel: r.Key.Label,
		Actor:  r.Actor.Label,
		Method: r.Request.Method, Path: r.Request.Path, Status: r.Request.Status, ClientIP: r.Request.ClientIP,
	}
	switch {
	case r.Actor.ID == r.Key.ID.String():
		shown.Actor = "" // the key itself
	case shown.Actor == "":
		shown.Actor = r.Actor.ID
	}
	if r.Key.ID != (store.ID{}) {
		shown.Key = r.Key.ID.String()
	}
	if r.Event == store.AuditGap {
		shown.Missing = missingRecords(r.Details)
	}
	return shown
}

// missingRecords is how many records a gap stands for.
func missingRecords(details json.RawMessage) int64 {
	var gap struct {
		Dropped int64 `json:"dropped"`
	}
	_ = json.Unmarshal(details, &gap) // what is not there is 0
	return gap.Dropped
}
