package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
)

// passage is a request on its way through the handler, which can be cut from the
// moment its key is checked.
type passage struct {
	app      *App
	w        http.ResponseWriter
	r        *http.Request
	engine   *engine.Engine // that let it through
	caller   caller
	denied   error // why the key is not good
	exchange cut.Exchange
	flight   coherence.Flight
}

func newPassage(app *App, w http.ResponseWriter, r *http.Request) *passage {
	return &passage{app: app, w: w, r: r}
}

// Verify implements the gate's verifier.
func (p *passage) Verify(ctx context.Context, key string) (*verify.Identity, error) {
	p.caller.key = key
	e, err := p.app.running(ctx)
	if err != nil {
		p.denied = err
		return nil, err
	}
	p.exchange.Begin(p.w, p.r)
	p.flight.Request = &p.exchange
	p.caller.identity, p.denied = e.Admit(ctx, key, &p.flight)
	if p.denied == nil {
		p.engine, p.caller.stage = e, flying
	}
	return p.caller.identity, p.denied
}

// entered reports whether the request was let through by its own key.
func (p *passage) entered() bool { return p.engine != nil }

func (p *passage) leave() { p.flight.Leave() }

// through calls the next handler, and has the request recorded if it is to be.
// The identity ends with it: however the request leaves, no handler outside of
// this one can send it to an upstream, where a revocation would not find it.
//
// If the request was cut before anything was sent the answer is the refusal. If
// it was cut later it panics, so that the server closes the connection, or resets
// the stream, and a part never passes for the whole: see [http.ErrAbortHandler].
func (p *passage) through(next caddyhttp.Handler, g *gate.Gate, auditor *auditor) (refusal *gate.Refusal, err error) {
	recorded := auditor.wants(p.r)
	answered := false // not after a panic either
	defer func() {
		outcome := p.exchange.Finish()
		g.Withdraw(p.r)
		p.caller.end(answered && outcome.Cause == nil)
		if outcome.Cause != nil {
			tellRefusal(p.r, countCut(outcome.Cause))
		}
		if recorded {
			auditor.used(p.r, p.caller.identity, outcome, err)
		}
		switch {
		case outcome.Cause == nil:
			return // also a panic that has nothing to do with us
		case outcome.Sent:
			panic(http.ErrAbortHandler)
		}
		if reason := recover(); reason != nil {
			if err, ok := reason.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				panic(reason)
			}
		}
		refusal = refusalOf(outcome.Cause)
	}()
	err = next.ServeHTTP(p.exchange.Wrap(p.engine.Alive))
	answered = err == nil
	return nil, err
}

// refusalOf is the answer to a request that was cut.
func refusalOf(cause error) *gate.Refusal {
	if errors.Is(cause, cut.ErrLapsed) {
		return gate.Unavailable(time.Second, cut.ErrLapsed)
	}
	return gate.Invalid()
}
