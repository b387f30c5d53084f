package admin

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"

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
}

func (p *problem) Error() string { return p.message }

func badRequest(message string) *problem {
	return &problem{status: http.StatusBadRequest, code: "invalid_request", message: message}
}

// problemOf is the one table that maps errors to status codes. What it does not
// know is a fault of ours or of the store, and its text is for the log alone.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if invalid, ok := errors.AsType[*store.InvalidError](err); ok {
		return &problem{
			status: http.StatusUnprocessableEntity, code: "validation_failed",
			message: invalid.Field + " " + invalid.Reason,
			fields:  map[string]string{invalid.Field: invalid.Reason},
		}
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return &problem{status: http.StatusNotFound, code: "not_found", message: "there is no such system key"}
	case errors.Is(err, ErrEscalation):
		return &problem{status: http.StatusForbidden, code: "escalation", message: err.Error()}
	case errors.Is(err, ErrForbidden):
		return &problem{status: http.StatusForbidden, code: "forbidden", message: err.Error()}
	}
	retryAfter := http.Header{"Retry-After": {"1"}}
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

type problemJSON struct {
	Error problemBody `json:"error"`
}

type problemBody struct {
	Code      string            `json:"code"`
	Message   string            `json:"message"`
	Status    int               `json:"status"`
	RequestID string            `json:"request_id"`
	Fields    map[string]string `json:"fields,omitempty"`
}

func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	requestID := h.config.RequestID(r)
	if p.status >= http.StatusInternalServerError {
		h.config.Logger.ErrorContext(r.Context(), "admin call failed",
			slog.String("request_id", requestID), slog.Any("error", err))
	}
	for name, values := range p.header {
		w.Header()[name] = append([]string(nil), values...)
	}
	writeJSON(w, p.status, problemJSON{Error: problemBody{
		Code:      p.code,
		Message:   strings.ToValidUTF8(p.message, "�"),
		Status:    p.status,
		RequestID: requestID,
		Fields:    p.fields,
	}})
}
