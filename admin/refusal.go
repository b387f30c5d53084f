package admin

import (
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// NotFound is the answer under a path that names nothing. It says the same for every path.
func NotFound() *gate.Refusal {
	return &gate.Refusal{Status: http.StatusNotFound, Code: "not_found", Message: "there is nothing here"}
}

// BadRequest is the answer to a request that cannot be understood. The client sees the message.
// It may repeat what the client has sent: [gate.Refusal.Body] takes keys out of it.
func BadRequest(message string) *gate.Refusal {
	return &gate.Refusal{Status: http.StatusBadRequest, Code: "invalid_request", Message: message}
}

// RefusalOf is the one table that maps errors to answers. An error that is not in the table is a
// fault of ours or of the store. Its text goes to the log alone: it may name hosts, roles and
// files. The answer is then 503, since the store may be back in a moment.
func RefusalOf(err error) *gate.Refusal {
	if refusal, ok := errors.AsType[*gate.Refusal](err); ok {
		return refusal
	}
	// The fields are sorted, so that the same mistakes give the same message.
	if fields := invalidFields(err); len(fields) > 0 {
		var reasons []string
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			reasons = append(reasons, name+" "+fields[name])
		}
		return &gate.Refusal{
			Status: http.StatusUnprocessableEntity, Code: "validation_failed",
			Message: strings.Join(reasons, "; "), Fields: fields,
		}
	}
	if _, replaced := errors.AsType[*store.ReplacedError](err); replaced || errors.Is(err, store.ErrEnded) {
		return &gate.Refusal{Status: http.StatusConflict, Code: "conflict", Message: err.Error()}
	}
	switch {
	case errors.Is(err, store.ErrActorGone):
		return gate.Invalid(gate.DeniedRevoked)
	case errors.Is(err, store.ErrNotFound):
		return &gate.Refusal{Status: http.StatusNotFound, Code: "not_found", Message: "there is no such system key"}
	case errors.Is(err, ErrEscalation):
		return &gate.Refusal{Status: http.StatusForbidden, Code: "escalation", Message: err.Error()}
	case errors.Is(err, ErrForbidden):
		return &gate.Refusal{Status: http.StatusForbidden, Code: "forbidden", Message: err.Error(), Err: err}
	case errors.Is(err, coherence.ErrUndone):
		return Unavailable(coherence.ErrUndone.Error())
	case errors.Is(err, hashing.ErrBusy):
		return Unavailable("too many keys are being hashed at the moment")
	}
	return Unavailable("the key store does not answer at the moment")
}

// Unavailable is the answer while a call cannot be served. The client may try again
// after a second.
func Unavailable(message string) *gate.Refusal {
	return &gate.Refusal{
		Status: http.StatusServiceUnavailable, Code: "unavailable",
		Message: message, Header: http.Header{"Retry-After": {"1"}},
	}
}

// invalidFields collects what is wrong with a value, field by field. An error may join several.
// A reason may repeat what the client has sent, such as a key in the wrong field, which is taken
// out.
func invalidFields(err error) map[string]string {
	fields := make(map[string]string)
	var collect func(err error)
	collect = func(err error) {
		switch e := err.(type) { //nolint:errorlint // walks the tree itself
		case *store.InvalidError:
			fields[e.Field] = token.Redact(e.Reason)
		case interface{ Unwrap() []error }:
			for _, joined := range e.Unwrap() {
				collect(joined)
			}
		case interface{ Unwrap() error }:
			collect(e.Unwrap())
		}
	}
	collect(err)
	return fields
}

// fail answers with an error: in the form of a surface, or else as JSON. The first surface that
// has a form for it answers.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, x *Exchange, err error) {
	refusal := x.Report(r, err)
	for _, surface := range h.surfaces {
		if surface.Fail(w, r, x, refusal) {
			return
		}
	}
	Refuse(w, refusal, refusal.Body(x.Request.ID))
}

// Refuse answers with a refusal and its body.
func Refuse(w http.ResponseWriter, refusal *gate.Refusal, body gate.Body) {
	SetFields(w, refusal)
	WriteJSON(w, refusal.Status, body)
}

// SetFields sets the header fields that go with a refusal. The values are copied: refusals may
// be shared by all requests, and a handler in front may change header fields of an answer.
func SetFields(w http.ResponseWriter, refusal *gate.Refusal) {
	for name, values := range refusal.Header {
		w.Header()[name] = slices.Clone(values)
	}
}

// Report maps an error to an answer. It records a call that was not allowed in the audit log,
// and logs a fault. Call it once for an error. Of faults one a second is logged, since anybody
// can cause as many as they like while the store is away.
func (x *Exchange) Report(r *http.Request, err error) *gate.Refusal {
	h, refusal := x.handler, RefusalOf(err)
	x.denied(err, refusal)
	if refusal.Status >= http.StatusInternalServerError {
		if refusal.Err != nil {
			err = refusal.Err
		}
		h.outages.Do(func() {
			// Without the context of the request: Caddy's logger of a request adds a stack trace
			// to every error.
			h.config.Logger.Error("admin call failed", slog.String("request_id", x.Request.ID), slog.Any("error", err),
				slog.String("host", r.Host), slog.String("method", x.Request.Method), slog.String("path", x.Request.Path))
		})
	}
	return refusal
}
