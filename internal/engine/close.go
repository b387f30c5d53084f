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
	// closeTimeout is how long it waits for the store, which waits for the
	// statements that are running.
	closeTimeout = 5 * time.Second
	drainLook    = 20 * time.Millisecond
	// auditTimeout is how long the audit records that are left may take.
	auditTimeout = 20 * time.Second
)

// Idle reports whether no request is in flight.
func (e *Engine) Idle() bool {
	l := e.live.Load()
	return l == nil || l.Flights.Len() == 0
}

// Drain returns when no request is in flight, or ctx ends. Until then the engine
// goes on as before, so that they can be cut.
func (e *Engine) Drain(ctx context.Context) {
	for !e.Idle() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(drainLook):
		}
	}
}

// Close ends the engine: it cuts the requests in flight at once, leaves the
// instances, writes the last uses and audit records that are left and closes the
// store, after the lookups that are running. Who wants to wait for requests calls
// Drain before. It can be called more than once, and before Start. A store that
// hangs does not hold it for more than some seconds.
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
	if l := e.live.Swap(nil); l != nil {
		errs = append(errs, l.close())
	}
	if e.proofs != nil {
		if err := e.proofs.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close proof cache: %w", err))
		}
	}
	return errors.Join(errs...)
}

// cutAll cuts what is in flight, and waits a moment for its handlers to return.
func (e *Engine) cutAll() {
	l := e.live.Load()
	if l == nil {
		return
	}
	n := l.Flights.CutAll(cut.ErrLapsed)
	if n == 0 {
		return
	}
	e.logger.Warn("the engine ends, requests in flight were cut", slog.Int("requests", n))
	unwind, cancel := context.WithTimeout(context.Background(), unwindTimeout)
	defer cancel()
	e.Drain(unwind)
}

// close ends the parts. The instance leaves when nothing is let through any more,
// and while the store is open.
func (l *Live) close() error {
	var errs []error
	if err := l.Follower.Close(); err != nil {
		errs = append(errs, fmt.Errorf("leave the instances: %w", err))
	}
	if l.Adopt != nil {
		l.Adopt.Close()
	}
	l.Verifier.Close()
	if err := l.Signer.Close(context.Background()); err != nil {
		errs = append(errs, fmt.Errorf("leave the signing keys: %w", err))
	}
	l.Published.Close()
	if err := l.Recorder.Close(context.Background()); err != nil {
		errs = append(errs, fmt.Errorf("write last uses: %w", err))
	}
	l.keeper.Close()
	l.pruner.Close()
	audit, cancel := context.WithTimeout(context.Background(), auditTimeout)
	defer cancel()
	if err := l.Audit.Close(audit); err != nil {
		errs = append(errs, fmt.Errorf("write audit records: %w", err))
	}
	if err := closeStore(l.Store); err != nil {
		errs = append(errs, fmt.Errorf("close store: %w", err))
	}
	return errors.Join(errs...)
}

func closeStore(s store.Store) error {
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	patience := time.NewTimer(closeTimeout)
	defer patience.Stop()
	select {
	case err := <-closed:
		return err
	case <-patience.C:
		return errors.New("statements are still running, it is left to them")
	}
}
