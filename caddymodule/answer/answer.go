// Package answer gives the answers that our handlers give themselves, most of all refusals.
package answer

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/request"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

// Refuser turns refusals into Caddy's errors, or into answers if the server has no error
// routes.
type Refuser struct {
	logger  *slog.Logger
	outages outages
}

// NewRefuser makes a refuser that logs each reason of an outage once a minute.
func NewRefuser(logger *slog.Logger) *Refuser { return &Refuser{logger: logger} }

// outageInterval is how often the log repeats why requests get 503. The access log has each.
const outageInterval = time.Minute

// outages count the requests that get 503, by reason.
type outages struct {
	mu    sync.Mutex
	tally map[gate.Reason]*tally
}

// tally counts the requests since the last line in the log.
type tally struct {
	requests int
	logged   time.Time
	last     time.Time // the newest request
}

// add counts a request. It returns how many to log, or 0 if it is too early.
func (o *outages) add(reason gate.Reason, now time.Time) (requests int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tally == nil {
		o.tally = make(map[gate.Reason]*tally)
	}
	t := o.tally[reason]
	if t == nil {
		t = new(tally)
		o.tally[reason] = t
	}
	if now.Sub(t.last) >= outageInterval {
		t.requests = 0 // they belong to an outage that is over
	}
	t.requests, t.last = t.requests+1, now
	if now.Sub(t.logged) < outageInterval {
		return 0
	}
	requests, t.requests, t.logged = t.requests, 0, now
	return requests
}

// Refuse answers, or returns an error that the error routes answer. It sets the fields of
// the header in both cases, and Caddy keeps them.
func (f *Refuser) Refuse(w http.ResponseWriter, r *http.Request, refusal *gate.Refusal) error {
	if !hasErrorRoutes(r) {
		f.Answer(w, r, refusal)
		return nil
	}
	f.Prepare(w, r, refusal)
	// Caddy enters the error routes with the original request, and an error route may be
	// a proxy. So a key must not stay in the query.
	_, original := request.Original(r)
	original.RawQuery = token.Redact(original.RawQuery)
	// Error routes may show the text of the error, so it does not name the cause.
	return caddyhttp.Error(refusal.Status, errors.New(refusal.Message))
}

// Answer answers itself, so that no error route runs. If the write fails, the client has
// gone away.
func (f *Refuser) Answer(w http.ResponseWriter, r *http.Request, refusal *gate.Refusal) {
	f.Prepare(w, r, refusal)
	_ = JSON(w, refusal.Status, refusal.Body(request.ID(r)))
}

// Prepare logs an outage, and sets the header fields of the answer. It logs nothing if
// the client has gone away.
func (f *Refuser) Prepare(w http.ResponseWriter, r *http.Request, refusal *gate.Refusal) {
	if refusal.Status >= http.StatusInternalServerError && r.Context().Err() == nil {
		f.logOutage(r, refusal)
	}
	for name, values := range refusal.Header {
		w.Header()[name] = slices.Clone(values)
	}
}

// logOutage logs why requests get 503, with one of them as the example. The context of the
// request is not passed on: Caddy's logger of a request adds a stack trace to every error.
func (f *Refuser) logOutage(r *http.Request, refusal *gate.Refusal) {
	requests := f.outages.add(refusal.Reason, time.Now()) //nolint:forbidigo // the real clock is wired here
	if requests == 0 {
		return
	}
	method, sent := request.Original(r)
	f.logger.Error("requests get 503", slog.String("reason", string(refusal.Reason)), slog.Any("error", refusal.Err),
		slog.Int("requests", requests), slog.String("request_id", request.ID(r)), slog.String("host", r.Host),
		slog.String("method", method), slog.String("path", token.Redact(sent.EscapedPath())))
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

// JSON answers with an object that nobody may keep.
func JSON(w http.ResponseWriter, status int, answer any) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(answer)
}
