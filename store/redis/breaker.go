package redis

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// tolerance is how many calls in a row must fail for the breaker to open.
const tolerance = 3

// errOverlapping marks a failure that does not count: it says nothing new about Redis.
var errOverlapping = errors.New("another call has failed since this one began")

// breaker keeps calls away from a Redis that does not answer. After a while it lets one
// call through. If that call succeeds, all calls go to Redis again.
//
// If calls fail at the same time, one of them counts. They have met the same pause of
// Redis, of the network, or of this process if it was short of processors. Three calls
// in a row have failed if each of them began after the failure of the one before.
type breaker struct {
	circuit *gobreaker.CircuitBreaker[struct{}]
	// failures is the number of failures that count. lastFailure is the newest of them.
	failures    atomic.Uint64
	lastFailure atomic.Pointer[failure]
	finding     atomic.Pointer[finding]
	// changed is called when the finding has changed.
	changed func()
}

// finding is the condition of Redis as a breaker sees it, and why.
type finding struct {
	condition Condition
	text      string
	since     time.Time
}

// newBreaker makes a breaker that is closed. Cooldown is how long it stays open.
func newBreaker(cooldown time.Duration, changed func()) *breaker {
	b := &breaker{changed: changed}
	b.lastFailure.Store(&failure{condition: Unreachable})
	b.setFinding(OK, "")
	b.circuit = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   1,
		Timeout:       cooldown,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tolerance },
		IsExcluded:    func(err error) bool { return errors.Is(err, context.Canceled) || errors.Is(err, errOverlapping) },
		OnStateChange: b.stateChanged,
	})
	return b
}

func (b *breaker) setFinding(condition Condition, text string) {
	since := time.Now() //nolint:forbidigo // for display
	b.finding.Store(&finding{condition, text, since})
}

// do makes a call. If the breaker is open, it returns [ErrUnavailable] instead. If the
// caller has gone away, the error is that of the context and does not count.
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
			return struct{}{}, errOverlapping
		default:
			if f, ok := errors.AsType[*failure](err); ok {
				b.lastFailure.Store(f)
			}
		}
		return struct{}{}, err
	})
	if errors.Is(verdict, gobreaker.ErrOpenState) || errors.Is(verdict, gobreaker.ErrTooManyRequests) {
		return ErrUnavailable
	}
	return err
}

// state returns the state of the circuit in our words.
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

// stateChanged updates the finding when the breaker opens or closes. If the breaker opens
// again for the same reason, the finding keeps its time.
func (b *breaker) stateChanged(_ string, _, to gobreaker.State) {
	found, last := b.finding.Load(), b.lastFailure.Load()
	switch {
	case to == gobreaker.StateClosed:
		b.setFinding(OK, "")
	case to == gobreaker.StateOpen && (found.condition != last.condition || found.text != last.text):
		b.setFinding(last.condition, last.text)
	default:
		return
	}
	b.changed()
}
