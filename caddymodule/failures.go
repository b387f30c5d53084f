package caddymodule

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/request"
	"github.com/lumio-vision/caddy-system-keys/internal/budget"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
)

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

// defaultFailureLimit holds where no limit is configured. Beyond it the answer is the same
// 401, late. So nobody gets another answer by default because of others at the address.
var defaultFailureLimit = FailureLimit{Count: 100, Window: caddy.Duration(time.Minute)}

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

// failures counts the bad keys that a handler refuses.
type failures struct {
	key        budget.Limit
	budget     *budget.Budget
	configured bool          // beyond the limit: 429, not 401
	delay      time.Duration // of an answer beyond the limit
	shutdown   <-chan struct{}
}

// newFailures takes a reference on the budget of the limit, or of the default. Give it back
// by release. The server is that of the handler, or nil.
func newFailures(server *caddyhttp.Server, limit *FailureLimit) (*failures, error) {
	key := cmp.Or(limit, &defaultFailureLimit).limit()
	value, _, err := budgets.LoadOrNew(key, func() (caddy.Destructor, error) {
		b, err := budget.New(key, budget.Size, time.Now) //nolint:forbidigo // the real clock is wired here
		return pooledBudget{b}, err
	})
	if err != nil {
		return nil, fmt.Errorf("failure_limit: %w", err)
	}
	return &failures{
		key: key, budget: value.(pooledBudget).Budget, configured: limit != nil,
		delay: 250 * time.Millisecond, shutdown: shutdownOf(server),
	}, nil
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
	if refusal.Code != gate.CodeInvalid {
		return refusal
	}
	wait := f.budget.Fail(request.ClientIP(r))
	if wait == 0 {
		return refusal
	}
	f.delayAnswer(r.Context())
	if f.configured {
		return gate.TooMany(wait)
	}
	return refusal.RetryAfter(wait)
}

// maxDelayed is how many answers of a process wait at once. Further answers are not
// delayed, so that a flood cannot fill the memory with waiting requests.
const maxDelayed = 1000

var delayed atomic.Int64 // answers that wait now

// delayAnswer waits, at most until the client has gone or the server shuts down. If too many
// answers wait already, it returns false at once.
func (f *failures) delayAnswer(ctx context.Context) bool {
	defer delayed.Add(-1)
	if delayed.Add(1) > maxDelayed {
		return false
	}
	timer := time.NewTimer(f.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-f.shutdown:
	}
	return true
}

// shutdownOf returns a channel that is closed when a server begins to shut down, at a reload
// too. Without a server it is nil, and never closed.
func shutdownOf(server *caddyhttp.Server) <-chan struct{} {
	if server == nil {
		return nil
	}
	shutdown := make(chan struct{})
	server.RegisterOnShutdown(sync.OnceFunc(func() { close(shutdown) }))
	return shutdown
}
