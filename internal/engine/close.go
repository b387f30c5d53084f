package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Bounds of the end of an engine.
const (
	// unwindTimeout is how long [Engine.Close] waits for requests that it has cut, so
	// that they are recorded. Their handlers return in milliseconds.
	unwindTimeout = 500 * time.Millisecond
	// closeTimeout is how long Close waits for the store, which waits for the running
	// statements.
	closeTimeout = 5 * time.Second
	// drainInterval is how often Drain looks whether requests are in flight.
	drainInterval = 20 * time.Millisecond
	// auditTimeout is how long Close may take to write the remaining audit records.
	auditTimeout = 20 * time.Second
)

// Idle reports whether no request is in flight.
func (e *Engine) Idle() bool {
	l := e.live.Load()
	return l == nil || l.InFlight.Len() == 0
}

// Drain returns when no request is in flight, or when ctx ends. Until then the engine goes
// on as before, so that a revocation can cut requests.
func (e *Engine) Drain(ctx context.Context) {
	for !e.Idle() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(drainInterval):
		}
	}
}

// Close ends the engine. It cuts the requests in flight at once, leaves the instances,
// writes the remaining last uses and audit records, and closes the store after the running
// lookups. To wait for requests, call Drain before. Close can be called more than once, and
// before Start. If the store hangs, Close gives up after some seconds.
func (e *Engine) Close() error {
	e.cutAll()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed.Swap(true) {
		return nil
	}
	if e.started {
		e.cancel()
		e.running.Wait()
	}
	var errs []error
	// From here on requests get [store.ErrClosed].
	l := e.live.Swap(nil)
	if l != nil {
		errs = append(errs, l.close())
	}
	if e.proofs != nil {
		if err := e.proofs.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close proof cache: %w", err))
		}
	}
	err := errors.Join(errs...)
	if err == nil && l != nil {
		e.logger.Info("stopped")
	}
	return err
}

// cutAll cuts the requests in flight, and waits a moment for their handlers to return.
func (e *Engine) cutAll() {
	l := e.live.Load()
	if l == nil {
		return
	}
	n := l.InFlight.CutAll(cut.ErrLapsed)
	// Most engines end with no request in flight, and nobody waits.
	if n == 0 {
		return
	}
	e.logger.Warn("the engine ends, requests in flight were cut", slog.Int("requests", n))
	unwind, cancel := context.WithTimeout(context.Background(), unwindTimeout)
	defer cancel()
	e.Drain(unwind)
}

// close ends the parts. The instance leaves after the last request was let through, and while
// the store is open. What requests have counted is written after that. The store comes last, as
// all others write to it. An error of one part does not keep the others open.
func (l *Live) close() error {
	var errs []error
	add := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	add("leave the instances", l.Follower.Close())
	if l.Adopt != nil {
		l.Adopt.Close()
	}
	l.Verifier.Close()
	add("leave the signing keys", l.Signer.Close(context.Background()))
	l.Published.Close()
	add("write last uses", l.Recorder.Close(context.Background()))
	l.Expiry.Close()
	l.keeper.Close()
	l.pruner.Close()
	ctx, cancel := context.WithTimeout(context.Background(), auditTimeout)
	defer cancel()
	add("write audit records", l.Audit.Close(ctx))
	add("close store", closeStore(l.Store))
	return errors.Join(errs...)
}

// closeStore closes the store, and gives up after a while if it hangs.
//
// The goroutine that closes is then left behind. It ends with the statements, or with the
// process.
func closeStore(s store.Store) error {
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case err := <-closed:
		return err
	case <-timer.C:
		return errors.New("statements are still running, it is left to them")
	}
}
