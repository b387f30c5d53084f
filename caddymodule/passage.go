package caddymodule

import (
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/caller"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/request"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/metrics"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// passage is a request on its way through the handler. From the moment that its key is
// checked, a revocation can cut it.
type passage struct {
	app      *app.App
	gate     *gate.Gate
	w        http.ResponseWriter
	r        *http.Request
	engine   *engine.Engine // the one that has admitted the key
	caller   caller.Caller
	exchange cut.Exchange
	inFlight coherence.Request
}

// decide decides on the request. Earlier is the identity that an earlier handler has let
// through, or nil.
func (p *passage) decide(earlier *verify.Identity) *gate.Decision {
	d := &p.caller.Decision
	*d = p.gate.Read(p.r)
	if d.Key != "" {
		d.Admitted(p.admit(d.Key))
	} else {
		d.Earlier(earlier)
	}
	p.gate.Decide(p.r, d)
	return d
}

// admit verifies the key and registers the request as in flight.
func (p *passage) admit(key string) (id store.ID, identity *verify.Identity, err error) {
	ctx := p.r.Context()
	if p.engine, err = p.app.Running(ctx); err != nil {
		return id, nil, err
	}
	p.exchange.Begin(p.w, p.r)
	p.exchange.Answering = p
	p.inFlight.Exchange = &p.exchange
	if id, identity, err = p.engine.Admit(ctx, key, p.inFlight.Client, &p.inFlight); err == nil {
		p.caller.EnterFlight()
	}
	return id, identity, err
}

// serve calls the next handler, and records the request if it is to be recorded. However
// the request ends, serve removes the identity from it. So no handler outside of this one
// can send the identity to an upstream, where a revocation would not find the request.
//
// If the request was cut before anything was sent, serve returns the refusal. If it was
// cut later, serve panics with [http.ErrAbortHandler]. The server then closes the
// connection or resets the stream, so that a part of the answer does not pass for all.
func (p *passage) serve(next caddyhttp.Handler) (refusal *gate.Refusal, err error) {
	recorded := p.app.Records(p.r)
	answered := false // stays false if next panics
	defer func() {
		outcome := p.exchange.Finish()
		p.gate.Withdraw(p.r)
		p.caller.Withdraw(answered && outcome.Cause == nil)
		cutBy := refusalOf(outcome.Cause)
		if cutBy != nil {
			request.LogRefusal(p.r, cutBy.Reason, p.caller.KeyID)
		}
		if recorded {
			p.app.RecordUse(p.r, p.caller.Identity, outcome, cutBy, err)
		}
		switch {
		case cutBy == nil:
			return // and let a panic of the next handler go on
		case outcome.Sent:
			panic(http.ErrAbortHandler)
		}
		if reason := recover(); reason != nil {
			if err, ok := reason.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				panic(reason)
			}
		}
		refusal = cutBy
	}()
	err = next.ServeHTTP(p.exchange.Wrap(p.engine.Alive))
	answered = err == nil
	return nil, err
}

// Answering implements [cut.Answering]. Nobody but this handler is told what the upstream has
// asked of the key.
func (p *passage) Answering(answer http.Header) { p.gate.TakeRequired(answer, p.caller.Identity) }

// refusalOf counts a request that was cut, and returns the answer to it. Without a cause
// it returns nil.
func refusalOf(cause error) *gate.Refusal {
	switch {
	case cause == nil:
		return nil
	case errors.Is(cause, cut.ErrLapsed):
		app.Meter.Cut(metrics.CutLapsed)
		return gate.Unavailable(gate.UnavailableLease, time.Second, cut.ErrLapsed)
	}
	app.Meter.Cut(metrics.CutKey)
	switch {
	case errors.Is(cause, cut.ErrExpired):
		return gate.Invalid(gate.DeniedExpired)
	case errors.Is(cause, cut.ErrNetwork):
		return gate.OtherNetwork()
	}
	return gate.Invalid(gate.DeniedRevoked)
}
