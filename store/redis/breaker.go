package redis

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// tolerance is how many calls in a row may fail before Redis is left alone.
const tolerance = 3

// errSame is a failure that tells nothing new of Redis.
var errSame = errors.New("another call has failed since this one began")

// breaker keeps calls away from a Redis that does not answer. After a while it
// lets one through; if that succeeds, all the others follow.
//
// Of calls that fail at the same time one counts: they have met the same pause, of
// Redis, of the network, or of this process, which may have been short of
// processors. Three in a row have failed if each began after the one before.
type breaker struct {
	circuit *gobreaker.CircuitBreaker[struct{}]
	// failures counts those that count.
	failures atomic.Uint64
	// failure is the last of them.
	failure atomic.Pointer[failure]
	finding atomic.Pointer[finding]
	changed func()
}

// finding is what a breaker has found out.
type finding struct {
	condition Condition
	text      string
	since     time.Time
}

// newBreaker makes a breaker that says when its finding has changed.
func newBreaker(cooldown time.Duration, changed func()) *breaker {
	b := &breaker{changed: changed}
	b.failure.Store(&failure{condition: Unreachable})
	b.find(OK, "")
	b.circuit = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   1,
		Timeout:       cooldown,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tolerance },
		IsExcluded:    func(err error) bool { return errors.Is(err, context.Canceled) || errors.Is(err, errSame) },
		OnStateChange: b.turn,
	})
	return b
}

func (b *breaker) find(condition Condition, text string) {
	since := time.Now() //nolint:forbidigo // for display
	b.finding.Store(&finding{condition, text, since})
}

// do makes a call, or returns [ErrUnavailable] instead. The result of a call
// whose caller is gone is the context's error, and is not counted.
func (b *breaker) do(ctx context.Context, call func(context.Context) error) error {
	var err error
	_, verdict := b.circuit.Execute(func() (struct{}, error) {
		before := b.failures.Load()
		err = call(ctx)
		switch {
		case err == nil:
		case errors.Is(ctx.Err(), context.Canceled):
			err = ctx.Err()
		case !b.failures.CompareAndSwap(before, before+1):
			return struct{}{}, errSame
		default:
			if known, ok := errors.AsType[*failure](err); ok {
				b.failure.Store(known)
			}
		}
		return struct{}{}, err
	})
	if errors.Is(verdict, gobreaker.ErrOpenState) || errors.Is(verdict, gobreaker.ErrTooManyRequests) {
		return ErrUnavailable
	}
	return err
}

// state is how the breaker stands.
func (b *breaker) state() State {
	switch b.circuit.State() {
	case gobreaker.StateOpen:
		return StateOpen
	case gobreaker.StateHalfOpen:
		return StateHalfOpen
	case gobreaker.StateClosed:
	}
	return StateClosed
}

// turn notes what the breaker has found out when it opens, and when it closes.
// While one call after the other tries in vain, the finding stays as old as it is.
func (b *breaker) turn(_ string, _, to gobreaker.State) {
	found, last := b.finding.Load(), b.failure.Load()
	switch {
	case to == gobreaker.StateClosed:
		b.find(OK, "")
	case to == gobreaker.StateOpen && (found.condition != last.condition || found.text != last.text):
		b.find(last.condition, last.text)
	default:
		return
	}
	b.changed()
}
