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

// breaker keeps calls away from a Redis that does not answer. After a while it
// lets one through; if that succeeds, all the others follow.
type breaker struct {
	circuit *gobreaker.CircuitBreaker[struct{}]
	log     *slog.Logger
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
		IsExcluded:    func(err error) bool { return errors.Is(err, context.Canceled) },
		OnStateChange: b.report,
	})
	return b
}

// do makes a call, or returns [ErrUnavailable] instead. The result of a call
// whose caller is gone is the context's error, and is not counted.
func (b *breaker) do(ctx context.Context, call func(context.Context) error) error {
	_, err := b.circuit.Execute(func() (struct{}, error) {
		err := call(ctx)
		switch {
		case err == nil:
		case errors.Is(ctx.Err(), context.Canceled):
			err = ctx.Err()
		default:
			text := err.Error()
			b.failure.Store(&text)
		}
		return struct{}{}, err
	})
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
