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

// problem is an error as a client sees it.
type problem struct {
	status  int
	code    string
	message string
	fields  map[string]string
	header  http.Header
	cause   error // for the log
}

func (p *problem) Error() string { return p.message }

// Unwrap returns the cause.
func (p *problem) Unwrap() error { return p.cause }

func notFound() *problem {
	return &problem{status: http.StatusNotFound, code: "not_found", message: "there is nothing here"}
}

func badRequest(message string) *problem {
	return &problem{status: http.StatusBadRequest, code: "invalid_request", message: message}
}

// problemOf is the one table that maps errors to status codes. What it does not
// know is a fault of ours or of the store, and its text is for the log alone.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if fields := invalidFields(err); len(fields) > 0 {
		var reasons []string
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			reasons = append(reasons, name+" "+fields[name])
		}
		return &problem{
			status: http.StatusUnprocessableEntity, code: "validation_failed",
			message: strings.Join(reasons, "; "), fields: fields,
		}
	}
	switch {
	case errors.Is(err, store.ErrActorGone):
		return refused(gate.Invalid())
	case errors.Is(err, store.ErrNotFound):
		return &problem{status: http.StatusNotFound, code: "not_found", message: "there is no such system key"}
	case errors.Is(err, ErrEscalation):
		return &problem{status: http.StatusForbidden, code: "escalation", message: err.Error()}
	case errors.Is(err, ErrForbidden):
		return &problem{status: http.StatusForbidden, code: "forbidden", message: err.Error(), cause: err}
	}
	retryAfter := http.Header{"Retry-After": {"1"}}
	if errors.Is(err, coherence.ErrUndone) {
		return &problem{
			status: http.StatusServiceUnavailable, code: "unavailable",
			message: coherence.ErrUndone.Error(), header: retryAfter,
		}
	}
	if errors.Is(err, verify.ErrBusy) {
		return &problem{
			status: http.StatusServiceUnavailable, code: "unavailable",
			message: "too many keys are being hashed at the moment", header: retryAfter,
		}
	}
	return &problem{
		status: http.StatusServiceUnavailable, code: "unavailable",
		message: "the key store does not answer at the moment", header: retryAfter,
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

// refused is a refusal of the proxy's kind, as the admin plane answers it.
func refused(r *gate.Refusal) *problem {
	return &problem{status: r.Status, code: r.Code, message: r.Message, header: r.Header, cause: r.Err}
}

type problemJSON struct {
	Error problemBody `json:"error"`
	// Errors is the same for who expects GraphQL.
	Errors []graphQLError `json:"errors,omitempty"`
}

type problemBody struct {
	Code      string            `json:"code"`
	Message   string            `json:"message"`
	Status    int               `json:"status"`
	RequestID string            `json:"request_id"`
	Fields    map[string]string `json:"fields,omitempty"`
}

func (h *Handler) fail(w http.ResponseWriter, r *http.Request, x *exchange, err error) {
	p := h.report(r, x, err)
	for name, values := range p.header {
		w.Header()[name] = append([]string(nil), values...)
	}
	if h.page.answers(r, x.route) {
		h.page.fail(w, r, x, p)
		return
	}
	body := problemJSON{Error: p.body(x.request.ID)}
	if x.route != nil && x.route == h.graphQL.route {
		body.Errors = []graphQLError{p.graphQL(x.request.ID)}
	}
	writeJSON(w, p.status, body)
}

// report makes a problem of an error, and tells the logs of it what they are to
// know.
func (h *Handler) report(r *http.Request, x *exchange, err error) *problem {
	p := problemOf(err)
	x.denied(err, p)
	if p.status >= http.StatusInternalServerError {
		if p.cause != nil {
			err = p.cause
		}
		h.outages.Do(func() {
			h.config.Logger.ErrorContext(r.Context(), "admin call failed",
				slog.String("request_id", x.request.ID), slog.Any("error", err))
		})
	}
	return p
}

func (p *problem) body(requestID string) problemBody {
	return problemBody{
		Code:      p.code,
		Message:   token.Redact(strings.ToValidUTF8(p.message, "�")), // it may repeat what the client has sent
		Status:    p.status,
		RequestID: requestID,
		Fields:    p.fields,
	}
}
