package redis

import (
	"context"
	"errors"
	"log/slog"
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
	log     *slog.Logger
	// failures counts those that count.
	failures atomic.Uint64
	// failure is the text of the last failure, for the log.
	failure atomic.Pointer[string]
}

func newBreaker(cooldown time.Duration, log *slog.Logger) *breaker {
	b := &breaker{log: log}
	b.failure.Store(new(string))
	b.circuit = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   1,
		Timeout:       cooldown,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tolerance },
		IsExcluded:    func(err error) bool { return errors.Is(err, context.Canceled) || errors.Is(err, errSame) },
		OnStateChange: b.report,
	})
	return b
}

// do makes a call, or returns [ErrUnavailable] instead. The result of a call
// whose caller is gone is the context's error, and is not counted.
func (b *breaker) do(ctx context.Context, call func(context.Context) error) error {
	var failure error
	_, err := b.circuit.Execute(func() (struct{}, error) {
		before := b.failures.Load()
		failure = call(ctx)
		switch {
		case failure == nil:
		case errors.Is(ctx.Err(), context.Canceled):
			failure = ctx.Err()
		case !b.failures.CompareAndSwap(before, before+1):
			return struct{}{}, errSame
		default:
			text := failure.Error()
			b.failure.Store(&text)
		}
		return struct{}{}, failure
	})
	if errors.Is(err, errSame) {
		return failure
	}
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
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

// report logs that Redis went or came back, and not each try in between.
func (b *breaker) report(_ string, from, to gobreaker.State) {
	switch {
	case from == gobreaker.StateClosed && to == gobreaker.StateOpen:
		b.log.Warn("redis does not answer and is left alone for a while", "error", *b.failure.Load())
	case to == gobreaker.StateClosed:
		b.log.Info("redis answers again")
	}
}
