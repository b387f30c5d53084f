package admin

import (
	"encoding/json"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// AuditJSON is an audit record as the API, and the command line with --json, show
// it. All members are always there.
type AuditJSON struct {
	ID      store.ID         `json:"id"`
	Event   store.AuditEvent `json:"event"`
	At      time.Time        `json:"at"`
	Actor   AuditActorJSON   `json:"actor"`
	Key     *AuditKeyJSON    `json:"key"`
	Request *RequestJSON     `json:"request"`
	Details json.RawMessage  `json:"details"`
}

// AuditActorJSON is who acted.
type AuditActorJSON struct {
	Type  string  `json:"type"`
	ID    string  `json:"id"`
	Label *string `json:"label"`
}

// AuditKeyJSON is the key that was acted on.
type AuditKeyJSON struct {
	ID    store.ID `json:"id"`
	Label *string  `json:"label"`
}

// RequestJSON is the request by which it was done.
type RequestJSON struct {
	ID       string `json:"id"`
	Method   string `json:"method"`
	Path     string `json:"path"`
	Status   int32  `json:"status"`
	ClientIP string `json:"client_ip"`
}

// ShowAudit gives the public form of an audit record.
func ShowAudit(r *store.AuditRecord) AuditJSON {
	shown := AuditJSON{
		ID: r.ID, Event: r.Event, At: r.At,
		Actor:   AuditActorJSON{Type: r.Actor.Type, ID: r.Actor.ID, Label: textOrNull(r.Actor.Label)},
		Details: r.Details,
	}
	if r.Key.ID != (store.ID{}) {
		shown.Key = &AuditKeyJSON{ID: r.Key.ID, Label: textOrNull(r.Key.Label)}
	}
	if r.Request != (store.AuditRequest{}) {
		shown.Request = &RequestJSON{
			ID: r.Request.ID, Method: r.Request.Method, Path: r.Request.Path,
			Status: int32(r.Request.Status), ClientIP: r.Request.ClientIP,
		}
	}
	if shown.Details == nil {
		shown.Details = json.RawMessage("{}")
	}
	return shown
}

func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
