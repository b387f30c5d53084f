package caddymodule

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/time/rate"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

// logInterval is how often an outage is logged at most.
const logInterval = time.Second

// refuser turns refusals into Caddy's errors, or into answers where the server
// has nothing to handle errors with.
type refuser struct {
	logger  *slog.Logger
	outages rate.Sometimes
}

func newRefuser(logger *slog.Logger) *refuser {
	return &refuser{logger: logger, outages: rate.Sometimes{First: 1, Interval: logInterval}}
}

// refuse answers, or returns the error for the error routes to answer. The
// fields of the header are set in both cases and kept by Caddy.
func (f *refuser) refuse(w http.ResponseWriter, r *http.Request, refusal *gate.Refusal) error {
	if !hasErrorRoutes(r) {
		f.answer(w, r, refusal)
		return nil
	}
	f.prepare(w, r, refusal)
	hideQuery(r)
	// Its text is what error routes may show: generic, without the cause.
	return caddyhttp.Error(refusal.Status, errors.New(refusal.Message))
}

// answer answers. It returns no error, so that no error route runs: if the client
// has gone away, nobody needs another answer.
func (f *refuser) answer(w http.ResponseWriter, r *http.Request, refusal *gate.Refusal) {
	f.prepare(w, r, refusal)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(refusal.Status)
	_ = json.NewEncoder(w).Encode(refusal.Body(requestID(r)))
}

// prepare logs the refusal, and sets the fields that go with its answer.
func (f *refuser) prepare(w http.ResponseWriter, r *http.Request, refusal *gate.Refusal) {
	f.log(r, refusal)
	for name, values := range refusal.Header {
		w.Header()[name] = slices.Clone(values)
	}
}

// hideQuery takes a key out of the query of the original request, with which Caddy
// enters the error routes: one of them may be a proxy.
func hideQuery(r *http.Request) {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		original.URL.RawQuery = token.Redact(original.URL.RawQuery)
	}
}

// log says why a key could not be verified, unless its client has gone away.
func (f *refuser) log(r *http.Request, refusal *gate.Refusal) {
	if refusal.Status < http.StatusInternalServerError || r.Context().Err() != nil {
		return
	}
	f.outages.Do(func() {
		f.logger.ErrorContext(r.Context(), "a request cannot be answered",
			slog.String("because", refusal.Message), slog.Any("error", refusal.Err))
	})
}

// hasErrorRoutes reports whether an error of this request goes to error routes.
// They may still be for other hosts than this one; Caddy then answers with an
// empty body, as it does for all its errors. A request that is in error routes
// already has none: for an error there Caddy sends a status and nothing else.
func hasErrorRoutes(r *http.Request) bool {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return ok && server.Errors != nil && len(server.Errors.Routes) > 0 &&
		r.Context().Value(caddyhttp.ErrorCtxKey) == nil
}

// requestID is what Caddy calls {http.request.uuid}: the same in the access log.
func requestID(r *http.Request) string {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	id, _ := repl.GetString("http.request.uuid")
	return id
}
