package caddymodule

import (
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/time/rate"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

// refuser turns refusals into Caddy's errors, or into answers if the server has no error
// routes.
type refuser struct {
	logger  *slog.Logger
	outages rate.Sometimes
}

// newRefuser makes a refuser that logs an outage at most once a second.
func newRefuser(logger *slog.Logger) *refuser {
	return &refuser{logger: logger, outages: rate.Sometimes{First: 1, Interval: time.Second}}
}

// refuse answers, or returns an error that the error routes answer. It sets the fields of
// the header in both cases, and Caddy keeps them.
func (f *refuser) refuse(w http.ResponseWriter, r *http.Request, refusal *gate.Refusal) error {
	if !hasErrorRoutes(r) {
		f.answer(w, r, refusal)
		return nil
	}
	f.prepare(w, r, refusal)
	// Caddy enters the error routes with the original request, and an error route may be
	// a proxy. So a key must not stay in the query.
	_, original := originalRequest(r)
	original.RawQuery = token.Redact(original.RawQuery)
	// Error routes may show the text of the error, so it does not name the cause.
	return caddyhttp.Error(refusal.Status, errors.New(refusal.Message))
}

// answer answers itself, so that no error route runs. If the write fails, the client has
// gone away.
func (f *refuser) answer(w http.ResponseWriter, r *http.Request, refusal *gate.Refusal) {
	f.prepare(w, r, refusal)
	_ = writeJSON(w, refusal.Status, refusal.Body(requestID(r)))
}

// prepare logs an outage, and sets the header fields of the answer. It logs nothing if
// the client has gone away.
func (f *refuser) prepare(w http.ResponseWriter, r *http.Request, refusal *gate.Refusal) {
	if refusal.Status >= http.StatusInternalServerError && r.Context().Err() == nil {
		f.outages.Do(func() {
			f.logger.ErrorContext(r.Context(), "a request cannot be answered",
				slog.String("because", refusal.Message), slog.Any("error", refusal.Err))
		})
	}
	for name, values := range refusal.Header {
		w.Header()[name] = slices.Clone(values)
	}
}

// hasErrorRoutes reports whether an error of this request goes to error routes. If none of
// them matches the request, Caddy answers with an empty body, as it does for all its
// errors. For an error inside an error route Caddy sends a status and nothing else, so
// there the answer is no.
func hasErrorRoutes(r *http.Request) bool {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return ok && server.Errors != nil && len(server.Errors.Routes) > 0 &&
		r.Context().Value(caddyhttp.ErrorCtxKey) == nil
}

// requestID returns Caddy's {http.request.uuid}, which the access log has too.
func requestID(r *http.Request) string {
	repl := replacerOf(r)
	if repl == nil {
		return ""
	}
	id, _ := repl.GetString("http.request.uuid")
	return id
}
