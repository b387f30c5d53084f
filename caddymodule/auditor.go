package caddymodule

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// auditor makes audit records of requests.
type auditor struct {
	app *App
	now func() time.Time
}

func newAuditor(app *App) *auditor {
	return &auditor{app: app, now: time.Now} //nolint:forbidigo // the real clock is wired here
}

// writer returns the engine's, or nil while there is none.
func (a *auditor) writer() *audit.Writer {
	if e := a.app.engine.Load(); e != nil {
		if live, err := e.Live(); err == nil {
			return live.Audit
		}
	}
	return nil
}

// wants reports whether a request that was let through is to be recorded. Safe
// methods (RFC 9110 section 9.2.1) are no writes.
func (a *auditor) wants(r *http.Request) bool {
	switch a.app.AuditRequests {
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

// used records a request that was let through, when it has ended. Ended is the answer to
// one that was cut, or nil.
func (a *auditor) used(r *http.Request, identity *verify.Identity, outcome cut.Outcome, ended *gate.Refusal, err error) {
	w := a.writer()
	if w == nil {
		return
	}
	request := auditRequest(r)
	request.Status = answered(outcome, ended, err)
	var details json.RawMessage
	if ended != nil {
		details = json.RawMessage(`{"cut":true}`)
	}
	w.Add(record(store.AuditUsed, a.now(), identity.ID, identity.Label, request, details))
}

// answered is what the client has got, or is about to get.
func answered(outcome cut.Outcome, ended *gate.Refusal, err error) int {
	failed, isStatus := errors.AsType[caddyhttp.HandlerError](err)
	switch {
	case outcome.Status != 0:
		return outcome.Status
	case ended != nil:
		return ended.Status
	case isStatus:
		return failed.StatusCode
	case err != nil:
		return http.StatusInternalServerError
	}
	return http.StatusOK // what net/http sends for a handler that has sent nothing
}

// denied records a refusal with its status, if it is because of the key: one that was
// revoked or has expired, or one that lacks a permission.
func (a *auditor) denied(r *http.Request, d *gate.Decision, status int) {
	reason, label := string(d.Refusal.Reason), ""
	switch d.Refusal.Reason {
	case gate.DeniedRevoked, gate.DeniedExpired:
	case gate.DeniedPermission:
		reason, label = d.Refusal.Code, d.Identity.Label
	default:
		return
	}
	w := a.writer()
	if w == nil {
		return
	}
	request := auditRequest(r)
	request.Status = status
	details, err := json.Marshal(map[string]string{"reason": reason})
	if err != nil { // strings always encode
		panic(err)
	}
	w.Deny(record(store.AuditDenied, a.now(), d.KeyID, label, request, details))
}

func record(
	event store.AuditEvent, at time.Time, id store.ID, label string, request store.AuditRequest, details json.RawMessage,
) store.AuditRecord {
	return store.AuditRecord{
		Event:   event,
		At:      at,
		Actor:   store.AuditActor{Type: store.ActorKey, ID: id.String(), Label: label},
		Key:     store.AuditKey{ID: id, Label: label},
		Request: request,
		Details: details,
	}
}

// auditRequest describes a request as its client sent it, before any rewrite.
func auditRequest(r *http.Request) store.AuditRequest {
	path := r.URL.EscapedPath()
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		path = original.URL.EscapedPath()
	}
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return store.AuditRequest{
		ID: requestID(r), Method: r.Method, Path: token.Redact(path), ClientIP: ip,
	}
}
