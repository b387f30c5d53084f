// Package worker repeats work in the background until it is stopped.
//
// A turn that fails is repeated at the next tick. The owner is told of the first failure
// in a row, and of the success that ends the row, so that a log does not fill while a
// store is down.
package worker

import (
	"context"
	"time"
)

// Work is what a [Worker] does. Turn and Every are required.
type Work struct {
	// Turn does what there is to do. Its context ends when the worker is stopped.
	Turn func(ctx context.Context) error
	// Every is the time between turns.
	Every time.Duration
	// Later has the first turn wait for its time; otherwise it is at once.
	Later bool
	// Failing is told of the first failure in a row.
	Failing func(err error)
	// Recovered is told of the success after it, or is nil.
	Recovered func()
}

// Worker does the work of a [Work], one turn at a time.
type Worker struct {
	stop context.CancelFunc
	wake chan struct{}
	done chan struct{}
}

// Start begins to work until [Worker.Close].
func Start(work Work) *Worker {
	ctx, stop := context.WithCancel(context.Background())
	w := &Worker{stop: stop, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run(ctx, work)
	return w
}

// Wake asks for a turn now. It is ignored while turns fail: a store that is down is
// asked at its ticks only.
func (w *Worker) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Close stops the worker, and waits for the turn that is running.
func (w *Worker) Close() {
	w.stop()
	<-w.done
}

func (w *Worker) run(ctx context.Context, work Work) {
	defer close(w.done)
	tick := time.NewTicker(work.Every)
	defer tick.Stop()
	failing := false
	if !work.Later {
		failing = work.turn(ctx, failing)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-w.wake:
			if failing {
				continue
			}
		}
		failing = work.turn(ctx, failing)
	}
}

// turn makes a turn, and reports whether it failed. The failure of a turn that was
// stopped is no failure.
func (w *Work) turn(ctx context.Context, failing bool) bool {
	err := w.Turn(ctx)
	switch {
	case err != nil && !failing && ctx.Err() == nil:
		w.Failing(err)
	case err == nil && failing && w.Recovered != nil:
		w.Recovered()
	}
	return err != nil
}

// Repeat makes steps as long as there is more to do. Each has its own timeout.
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
