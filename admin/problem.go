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
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

func notFound() *gate.Refusal {
	return &gate.Refusal{Status: http.StatusNotFound, Code: "not_found", Message: "there is nothing here"}
}

func badRequest(message string) *gate.Refusal {
	return &gate.Refusal{Status: http.StatusBadRequest, Code: "invalid_request", Message: message}
}

// refusalOf is the one table that maps errors to answers. An error that is not in the
// table is a fault of ours or of the store. Its text goes to the log alone.
func refusalOf(err error) *gate.Refusal {
	if p, ok := errors.AsType[*gate.Refusal](err); ok {
		return p
	}
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
	switch {
	case errors.Is(err, store.ErrActorGone):
		return gate.Invalid()
	case errors.Is(err, store.ErrNotFound):
		return &gate.Refusal{Status: http.StatusNotFound, Code: "not_found", Message: "there is no such system key"}
	case errors.Is(err, ErrEscalation):
		return &gate.Refusal{Status: http.StatusForbidden, Code: "escalation", Message: err.Error()}
	case errors.Is(err, ErrForbidden):
		return &gate.Refusal{Status: http.StatusForbidden, Code: "forbidden", Message: err.Error(), Err: err}
	}
	retryAfter := http.Header{"Retry-After": {"1"}}
	if errors.Is(err, coherence.ErrUndone) {
		return &gate.Refusal{
			Status: http.StatusServiceUnavailable, Code: "unavailable",
			Message: coherence.ErrUndone.Error(), Header: retryAfter,
		}
	}
	if errors.Is(err, verify.ErrBusy) {
		return &gate.Refusal{
			Status: http.StatusServiceUnavailable, Code: "unavailable",
			Message: "too many keys are being hashed at the moment", Header: retryAfter,
		}
	}
	return &gate.Refusal{
		Status: http.StatusServiceUnavailable, Code: "unavailable",
		Message: "the key store does not answer at the moment", Header: retryAfter,
	}
}

// invalidFields collects what is wrong with a value, field by field.
func invalidFields(err error) map[string]string {
	fields := make(map[string]string)
	var collect func(err error)
	collect = func(err error) {
		switch e := err.(type) { //nolint:errorlint // walks the tree itself
		case *store.InvalidError:
			fields[e.Field] = token.Redact(e.Reason)
		case interface{ Unwrap() []error }:
			for _, one := range e.Unwrap() {
				collect(one)
			}
		case interface{ Unwrap() error }:
			collect(e.Unwrap())
		}
	}
	collect(err)
	return fields
}

// fail answers with an error: as JSON, or as a page where [page.answers] says so.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, x *exchange, err error) {
	p := h.report(r, x, err)
	for name, values := range p.Header {
		w.Header()[name] = append([]string(nil), values...)
	}
	if h.page.answers(r, x.route) {
		h.page.fail(w, r, x, p)
		return
	}
	body := p.Body(x.request.ID)
	if x.route != nil && x.route == h.graphQL.route {
		body.Errors = []any{graphQLError{body.Error.Message, extensions(p, x.request.ID)}}
	}
	writeJSON(w, p.Status, body)
}

// report maps an error to an answer. It records a call that was not allowed in the
// audit log, and logs a fault.
func (h *Handler) report(r *http.Request, x *exchange, err error) *gate.Refusal {
	p := refusalOf(err)
	x.denied(err, p)
	if p.Status >= http.StatusInternalServerError {
		if p.Err != nil {
			err = p.Err
		}
		h.outages.Do(func() {
			h.config.Logger.ErrorContext(r.Context(), "admin call failed",
				slog.String("request_id", x.request.ID), slog.Any("error", err))
		})
	}
	return p
}
