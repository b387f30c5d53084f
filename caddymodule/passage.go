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
	"github.com/lumio-vision/caddy-system-keys/internal/metrics"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// passage is a request on its way through the handler, which can be cut from the
// moment its key is checked.
type passage struct {
	app      *App
	w        http.ResponseWriter
	r        *http.Request
	engine   *engine.Engine // that let it through
	caller   caller
	exchange cut.Exchange
	flight   coherence.Flight
}

func newPassage(app *App, w http.ResponseWriter, r *http.Request) *passage {
	return &passage{app: app, w: w, r: r}
}

// enter decides on the request. Earlier is who an earlier handler has let through.
func (p *passage) enter(g *gate.Gate, earlier *verify.Identity) *gate.Decision {
	d := &p.caller.Decision
	*d = g.Read(p.r)
	if d.Key != "" {
		d.Admitted(p.admit(p.r.Context(), d.Key))
	} else {
		d.Earlier(earlier)
	}
	g.Decide(p.r, d)
	return d
}

// admit verifies the key. From then on the request can be cut.
func (p *passage) admit(ctx context.Context, key string) (id store.ID, identity *verify.Identity, err error) {
	if p.engine, err = p.app.running(ctx); err != nil {
		return id, nil, err
	}
	p.exchange.Begin(p.w, p.r)
	p.flight.Request = &p.exchange
	if id, identity, err = p.engine.Admit(ctx, key, &p.flight); err == nil {
		p.caller.stage = flying
	}
	return id, identity, err
}

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
		ended := refusalOf(outcome.Cause)
		if ended != nil {
			tellRefusal(p.r, ended.Reason)
		}
		if recorded {
			auditor.used(p.r, p.caller.Identity, outcome, ended, err)
		}
		switch {
		case ended == nil:
			return // also a panic that has nothing to do with us
		case outcome.Sent:
			panic(http.ErrAbortHandler)
		}
		if reason := recover(); reason != nil {
			if err, ok := reason.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				panic(reason)
			}
		}
		refusal = ended
	}()
	err = next.ServeHTTP(p.exchange.Wrap(p.engine.Alive))
	answered = err == nil
	return nil, err
}

// refusalOf counts a request that was cut, and is the answer to it. It is nil without a
// cause.
func refusalOf(cause error) *gate.Refusal {
	switch {
	case cause == nil:
		return nil
	case errors.Is(cause, cut.ErrLapsed):
		measured.Cut(metrics.CutLapsed)
		return gate.Unavailable(gate.UnavailableLease, time.Second, cut.ErrLapsed)
	}
	measured.Cut(metrics.CutKey)
	if errors.Is(cause, cut.ErrExpired) {
		return gate.Invalid(gate.DeniedExpired)
	}
	return gate.Invalid(gate.DeniedRevoked)
}
