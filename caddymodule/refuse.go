package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/time/rate"

	"github.com/lumio-vision/caddy-system-keys/internal/budget"
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

// FailureLimit bounds how many bad system keys (malformed, never minted, revoked or
// expired) may come from one client address. The address is Caddy's `{client_ip}`, which
// honours `trusted_proxies`; an IPv6 address counts with its whole /64. Beyond the limit
// such a key is answered with 429 and `Retry-After` in place of 401, a quarter of a second
// late. The delay slows down clients that wait for each answer.
//
// A good key is neither counted nor refused, whatever else comes from the same address.
// Neither is a request without a system key.
type FailureLimit struct {
	// How many bad keys may come at once.
	Count int `json:"count,omitempty"`

	// The time in which that many bad keys are forgotten, one after another.
	Window caddy.Duration `json:"window,omitempty"`
}

func (l *FailureLimit) limit() budget.Limit {
	return budget.Limit{Count: l.Count, Window: time.Duration(l.Window)}
}

func (l *FailureLimit) check() error {
	if err := l.limit().Check(); err != nil {
		return fmt.Errorf("failure_limit: %w", err)
	}
	return nil
}

// budgets holds the counts by limit, so that a reload does not forget them. Handlers with
// the same limit count together.
var budgets = caddy.NewUsagePool()

// pooledBudget is a budget in the pool.
type pooledBudget struct{ *budget.Budget }

// Destruct implements [caddy.Destructor].
func (pooledBudget) Destruct() error { return nil }

// failures counts the bad keys that a handler refuses. Nil counts nothing.
type failures struct {
	key    budget.Limit
	budget *budget.Budget
}

// newFailures takes a reference on the budget of the limit. Give it back by release.
func newFailures(limit *FailureLimit) (*failures, error) {
	if limit == nil {
		return nil, nil
	}
	key := limit.limit()
	value, _, err := budgets.LoadOrNew(key, func() (caddy.Destructor, error) {
		b, err := budget.New(key, budget.Size, time.Now) //nolint:forbidigo // the real clock is wired here
		return pooledBudget{b}, err
	})
	if err != nil {
		return nil, fmt.Errorf("failure_limit: %w", err)
	}
	return &failures{key: key, budget: value.(pooledBudget).Budget}, nil
}

func (f *failures) release() error {
	if f == nil {
		return nil
	}
	_, err := budgets.Delete(f.key)
	return err
}

// limit returns the answer to a refused client. Only bad keys count, and only after they
// were verified. So the owner of a good key does not pay for others at the same address.
func (f *failures) limit(r *http.Request, refusal *gate.Refusal) *gate.Refusal {
	if f == nil || refusal.Code != gate.CodeInvalid {
		return refusal
	}
	client, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	wait := f.budget.Fail(client)
	if wait == 0 {
		return refusal
	}
	delayAnswer(r.Context())
	return gate.TooMany(wait)
}

const (
	answerDelay = 250 * time.Millisecond
	// maxDelayed is how many answers of a process wait at once. Further answers are not
	// delayed, so that a flood cannot fill the memory with waiting requests.
	maxDelayed = 1024
)

var delayed atomic.Int64 // answers that wait now

// delayAnswer waits, at most until the client has gone. If too many answers wait already,
// it returns false at once.
func delayAnswer(ctx context.Context) bool {
	defer delayed.Add(-1)
	if delayed.Add(1) > maxDelayed {
		return false
	}
	timer := time.NewTimer(answerDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return true
}
