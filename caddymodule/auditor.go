package caddymodule

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/internal/cut"
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

// used records a request that was let through, when it has ended.
func (a *auditor) used(r *http.Request, identity *verify.Identity, outcome cut.Outcome, err error) {
	w := a.writer()
	if w == nil {
		return
	}
	request := auditRequest(r)
	request.Status = answered(outcome, err)
	var details json.RawMessage
	if outcome.Cause != nil {
		details = json.RawMessage(`{"cut":true}`)
	}
	w.Add(record(store.AuditUsed, a.now(), identity.ID, identity.Label, request, details))
}

// answered is what the client has got, or is about to get.
func answered(outcome cut.Outcome, err error) int {
	failed, isStatus := errors.AsType[caddyhttp.HandlerError](err)
	switch {
	case outcome.Status != 0:
		return outcome.Status
	case outcome.Cause != nil:
		return refusalOf(outcome.Cause).Status
	case isStatus:
		return failed.StatusCode
	case err != nil:
		return http.StatusInternalServerError
	}
	return http.StatusOK // what net/http sends for a handler that has sent nothing
}

// denied records a request that was refused because of its key: one that was
// revoked or has expired, or one that lacks a permission.
func (a *auditor) denied(r *http.Request, id store.ID, label, reason string, status int) {
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
	w.Deny(record(store.AuditDenied, a.now(), id, label, request, details))
}

// refused records a refusal of the proxy, if it is one to be recorded. The
// identity is nil if the key was not good, and err then says why.
func (a *auditor) refused(r *http.Request, key string, identity *verify.Identity, err error, status int) {
	if identity != nil {
		if status == http.StatusForbidden {
			a.denied(r, identity.ID, identity.Label, "insufficient_scope", status)
		}
		return
	}
	reason, ok := errors.AsType[verify.Reason](err)
	if !ok {
		return
	}
	switch reason {
	case verify.ReasonUnknown:
		a.deniedKey(r, key, "revoked", status)
	case verify.ReasonExpired:
		a.deniedKey(r, key, "expired", status)
	case verify.ReasonUnminted, verify.ReasonMismatch:
	}
}

func (a *auditor) deniedKey(r *http.Request, key, reason string, status int) {
	e := a.app.engine.Load()
	if e == nil {
		return
	}
	if live, err := e.Live(); err == nil {
		if id, ok := live.Verifier.Whose(key); ok {
			a.denied(r, id, "", reason, status)
		}
	}
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
