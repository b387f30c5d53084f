package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/internal/budget"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
)

// FailureLimit bounds how many system keys that are not good (malformed, never
// minted, revoked or expired) may come from one client address, as Caddy knows it
// (`{client_ip}`, which honours `trusted_proxies`); of IPv6 from one /64. Beyond
// it they are answered with 429 and `Retry-After` in place of 401, a quarter of a
// second late, which slows down whoever waits for answers before it goes on.
//
// A key that is good is neither counted nor refused, whoever else sends from the
// same address, and neither is a request without a system key.
type FailureLimit struct {
	// How many may come at once.
	Count int `json:"count,omitempty"`

	// The time in which that many are forgotten, one after another.
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

// budgets holds what was counted, by limit, so that a reload forgets nothing.
// Handlers with the same limit count together.
var budgets = caddy.NewUsagePool()

// counted is a budget in the pool.
type counted struct{ *budget.Budget }

// Destruct implements [caddy.Destructor].
func (counted) Destruct() error { return nil }

// Bounds of holding answers back.
const (
	holdFor = 250 * time.Millisecond
	// maxHeld is how many wait at once in a process. Beyond it answers are not held
	// back: to be slow must not cost what a flood would.
	maxHeld = 1024
)

var held atomic.Int64

// failures counts what a handler refuses. Nil counts nothing.
type failures struct {
	key    budget.Limit
	budget *budget.Budget
}

func newFailures(limit *FailureLimit) (*failures, error) {
	if limit == nil {
		return nil, nil
	}
	f := &failures{key: limit.limit()}
	value, _, err := budgets.LoadOrNew(f.key, func() (caddy.Destructor, error) {
		b, err := budget.New(f.key, budget.Size, time.Now) //nolint:forbidigo // the real clock is wired here
		return counted{b}, err
	})
	if err != nil {
		return nil, fmt.Errorf("failure_limit: %w", err)
	}
	f.budget = value.(counted).Budget
	return f, nil
}

// judge returns what a refused client gets. Only what says that a key is not good
// counts: whether it is was found out before, so that nobody who has one pays for
// others at the same address.
func (f *failures) judge(r *http.Request, refusal *gate.Refusal) *gate.Refusal {
	if f == nil || refusal.Code != gate.CodeInvalid {
		return refusal
	}
	client, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	wait := f.budget.Fail(client)
	if wait == 0 {
		return refusal
	}
	hold(r.Context())
	return gate.TooMany(wait)
}

// hold keeps an answer back, or until its client has gone, and reports whether
// there was room to.
func hold(ctx context.Context) bool {
	defer held.Add(-1)
	if held.Add(1) > maxHeld {
		return false
	}
	timer := time.NewTimer(holdFor)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return true
}

func (f *failures) release() error {
	if f == nil {
		return nil
	}
	_, err := budgets.Delete(f.key)
	return err
}
