// Package worker repeats work in the background until it is stopped.
//
// A turn that fails is repeated at the next tick. The owner is told of the first failure
// in a row, again each minute, and of the success that ends the row. So a log does not fill
// while a store is down.
package worker

import (
	"context"
	"sync"
	"time"
)

// Work is what a [Worker] does. Turn and Every are required.
type Work struct {
	// Turn does the work once. Its context ends when the worker is stopped.
	Turn func(ctx context.Context) error
	// Every is the time between turns.
	Every time.Duration
	// Later delays the first turn until the first tick. Otherwise the first turn is at once.
	Later bool
	// Failing is called with the first failure in a row, and then once a minute. Required if
	// Turn can fail.
	Failing func(err error)
	// Recovered is called after the success that ends the row, unless it is nil.
	Recovered func()
}

// Worker does a [Work], one turn at a time. It is safe for concurrent use.
type Worker struct {
	stop context.CancelFunc
	wake chan struct{}
	done sync.WaitGroup
}

// Start starts a worker, which works until [Worker.Close].
func Start(work Work) *Worker {
	ctx, stop := context.WithCancel(context.Background())
	w := &Worker{stop: stop, wake: make(chan struct{}, 1)}
	w.done.Go(func() { w.run(ctx, work) })
	return w
}

// Wake asks for a turn now, and does not wait for it. While turns fail it does nothing, so
// that a store that is down is asked at the ticks only.
func (w *Worker) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Close stops the worker, and waits for the turn that is running.
func (w *Worker) Close() {
	w.stop()
	w.done.Wait()
}

func (w *Worker) run(ctx context.Context, work Work) {
	tick := time.NewTicker(work.Every)
	defer tick.Stop()
	var told time.Time // of a failure; zero if the last turn has succeeded
	if !work.Later {
		told = work.turn(ctx, told)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-w.wake:
			if !told.IsZero() {
				continue
			}
		}
		told = work.turn(ctx, told)
	}
}

// tellInterval is how often the owner is told of failures in a row.
const tellInterval = time.Minute

// turn does the work once, and returns when the owner was told last that it fails. The owner is
// not told of a failure that comes of the stop.
func (w *Work) turn(ctx context.Context, told time.Time) time.Time {
	err := w.Turn(ctx)
	if err == nil {
		if !told.IsZero() && w.Recovered != nil {
			w.Recovered()
		}
		return time.Time{}
	}
	now := time.Now() //nolint:forbidigo // how long ago that was
	if now.Sub(told) < tellInterval || ctx.Err() != nil {
		return told
	}
	w.Failing(err)
	return now
}

// Repeat calls step as long as there is more to do. Each step has the whole timeout.
func Repeat(ctx context.Context, timeout time.Duration, step func(ctx context.Context) (more bool, err error)) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, timeout)
		more, err := step(attempt)
		cancel()
		if err != nil || !more {
			return err
		}
	}
}
