package app

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/request"
	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// parts returns those of the engine, or nil while the store is not open.
func (a *App) parts() *engine.Live {
	if e := a.engine.Load(); e != nil {
		if live, err := e.Live(); err == nil {
			return live
		}
	}
	return nil
}

// Records reports whether to record a request that was let through. Safe methods (RFC 9110
// section 9.2.1) are no writes.
func (a *App) Records(r *http.Request) bool {
	switch a.AuditRequests {
	case auditAll:
		return true
	case auditNone:
		return false
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return false
	}
	return true
}

// RecordUse records a request that was let through, after its end. If the request was cut,
// cutBy is the answer to it, else nil.
func (a *App) RecordUse(r *http.Request, identity *verify.Identity, outcome cut.Outcome, cutBy *gate.Refusal, err error) {
	live := a.parts()
	if live == nil {
		return
	}
	described := request.ForAudit(r)
	described.Status = statusOf(outcome, cutBy, err)
	var details json.RawMessage
	if cutBy != nil {
		details = json.RawMessage(`{"cut":true}`)
	}
	live.Audit.Add(newRecord(store.AuditUsed, identity.ID, identity.Label, described, details))
}

// statusOf returns the status that the client has got, or is about to get.
func statusOf(outcome cut.Outcome, cutBy *gate.Refusal, err error) int {
	failed, isStatus := errors.AsType[caddyhttp.HandlerError](err)
	switch {
	case outcome.Status != 0:
		return outcome.Status
	case cutBy != nil:
		return cutBy.Status
	case isStatus:
		return failed.StatusCode
	case err != nil:
		return http.StatusInternalServerError
	}
	return http.StatusOK // net/http sends it for a handler that has sent nothing
}

// RecordDenial records a refusal and its status, if the key was revoked, has expired, lacks a
// permission, or was used from outside of its networks. It records no other refusals.
func (a *App) RecordDenial(r *http.Request, d *gate.Decision, status int) {
	reason, label := string(d.Refusal.Reason), ""
	used := false
	switch d.Refusal.Reason {
	case gate.DeniedRevoked, gate.DeniedExpired:
	case gate.DeniedPermission, gate.DeniedNetwork:
		reason, label, used = d.Refusal.Code, d.Identity.Label, d.Refusal.Reason == gate.DeniedPermission
	default:
		return
	}
	live := a.parts()
	if live == nil {
		return
	}
	if d.Refusal.Reason != gate.DeniedRevoked { // which has no activity any more
		live.Recorder.Deny(d.KeyID, time.Now(), used) //nolint:forbidigo // the real clock is wired here
	}
	described := request.ForAudit(r)
	described.Status = status
	details, err := json.Marshal(map[string]string{"reason": reason})
	if err != nil { // strings always encode
		panic(err)
	}
	live.Audit.Deny(newRecord(store.AuditDenied, d.KeyID, label, described, details))
}

// RecordDeniedCall records a call that the admin plane has refused to a key or a person. With a
// key, the request was noted as a use of the key.
func (a *App) RecordDeniedCall(record store.AuditRecord) {
	live := a.parts()
	if live == nil {
		return
	}
	live.Audit.Deny(record)
	if record.Key.ID != (store.ID{}) {
		live.Recorder.Deny(record.Key.ID, record.At, true)
	}
}

func newRecord(
	event store.AuditEvent, id store.ID, label string, request store.AuditRequest, details json.RawMessage,
) store.AuditRecord {
	return store.AuditRecord{
		Event:   event,
		At:      time.Now(), //nolint:forbidigo // the real clock is wired here
		Actor:   store.AuditActor{Type: store.ActorKey, ID: id.String(), Label: label},
		Key:     store.AuditKey{ID: id, Label: label},
		Request: request,
		Details: details,
	}
}
