package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/lumio-vision/caddy-system-keys/internal/adopt"
	"github.com/lumio-vision/caddy-system-keys/internal/assertion"
	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/session"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/internal/usage"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Bounds of the wait for a store.
const (
	// openTimeout bounds one attempt, migrations included.
	openTimeout = time.Minute
	// firstWait is how long Start waits for a server before it goes on without.
	firstWait = 5 * time.Second
	minPause  = 100 * time.Millisecond
	maxPause  = 2 * time.Second
	// repeatAfter is how often the log says again why a store cannot be opened.
	repeatAfter = time.Minute
)

// Failure is why the store could not be opened when that was tried last.
type Failure struct {
	Err error
	// Since is when it could not be opened for the first time.
	Since time.Time
	// Final says that waiting does not help.
	Final bool
}

// Failure returns nil if the store is open, or was not tried yet.
func (e *Engine) Failure() *Failure { return e.failure.Load() }

// Start makes one attempt to open the store and to migrate it, and waits for the
// first lease. It returns an error if the attempt shows that waiting does not help:
// the database refuses this configuration, or the store is embedded. After any
// other failure, or after a few seconds, it returns nil, and the engine goes on
// trying. A second Start, by another configuration that shares the engine, only
// waits.
func (e *Engine) Start(ctx context.Context) error {
	if err := e.begin(); err != nil {
		return err
	}
	wait := firstWait
	if e.config.Embedded { // its migrations may take longer
		wait = openTimeout
	}
	patience := time.NewTimer(wait)
	defer patience.Stop()
	select {
	case <-e.tried:
	case <-patience.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	if failure := e.Failure(); failure != nil && failure.Final {
		return failure.Err
	} else if failure != nil {
		return nil
	}
	l, err := e.Live()
	if err != nil {
		return err
	}
	select {
	case <-l.Follower.Ready():
	case <-patience.C:
		e.logger.Warn("this instance has no lease yet, requests get 503 until it has")
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// begin begins to try to open the store, and asks the shared cache once.
func (e *Engine) begin() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed.Load() {
		return store.ErrClosed
	}
	if !e.started {
		e.started = true
		var background context.Context
		background, e.cancel = context.WithCancel(context.Background())
		e.running.Go(func() { e.keepOpening(background) })
		if e.proofs != nil {
			e.running.Go(func() { e.proofs.Check(background, verify.ProbeAddress) })
		}
	}
	return nil
}

// keepOpening tries until the store is open. It says so when it begins to wait,
// each minute while it does, and when it need not any more.
func (e *Engine) keepOpening(ctx context.Context) {
	now := time.Now //nolint:forbidigo // the real clock is wired here
	var said time.Time
	attempts := 0
	open := func() (struct{}, error) {
		attempts++
		try, cancel := context.WithTimeout(ctx, openTimeout)
		err := e.open(try)
		cancel()
		if err != nil && ctx.Err() != nil {
			return struct{}{}, err
		}
		e.note(err, now())
		if attempts == 1 {
			close(e.tried)
		}
		if err != nil && e.config.Embedded { // Start returns the error
			return struct{}{}, backoff.Permanent(err)
		}
		if err != nil && now().Sub(said) >= repeatAfter {
			said = now()
			e.complain(e.Failure())
		}
		return struct{}{}, err
	}
	pauses := backoff.NewExponentialBackOff() // spread, so that instances do not try in step
	pauses.InitialInterval, pauses.Multiplier, pauses.MaxInterval = minPause, 2, maxPause
	_, err := backoff.Retry(ctx, open, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(0))
	if err == nil && attempts > 1 {
		e.logger.Info("store is open", slog.Int("attempts", attempts))
	}
}

func (e *Engine) complain(failure *Failure) {
	details := []any{slog.Any("error", failure.Err), slog.Time("since", failure.Since)}
	if failure.Final {
		e.logger.Error("the database refuses this configuration", details...)
	} else {
		e.logger.Error("store cannot be opened, requests get 503 until it can", details...)
	}
}

// note keeps why an attempt has failed.
func (e *Engine) note(err error, at time.Time) {
	if err == nil {
		e.failure.Store(nil)
		return
	}
	if before := e.Failure(); before != nil {
		at = before.Since
	}
	_, refused := errors.AsType[*store.RefusedError](err)
	e.failure.Store(&Failure{Err: err, Since: at, Final: refused || e.config.Embedded})
}

// open makes one attempt, whole or not at all.
func (e *Engine) open(ctx context.Context) error {
	s, err := e.config.Open(ctx)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if err := s.Migrate(ctx); err != nil {
		_ = s.Close()
		return fmt.Errorf("migrate store: %w", err)
	}
	mintKey, err := s.MintKey(ctx)
	if err != nil {
		_ = s.Close()
		return fmt.Errorf("read mint key: %w", err)
	}
	e.live.Store(e.assemble(s, token.New(mintKey)))
	return nil
}

// assemble makes the parts and starts to follow the store.
func (e *Engine) assemble(s store.Store, minter *token.Minter) *Live {
	now := time.Now //nolint:forbidigo // the real clock is wired here
	e.observe(s)
	l := &Live{
		Store:    s,
		Minter:   minter,
		Slots:    e.slots,
		Recorder: usage.Start(s, e.config.LastUsedInterval, e.logger),
		Lease:    coherence.NewLease(e.config.Lease, now),
		Flights:  coherence.NewFlights(now),
	}
	var secret []byte
	if len(e.config.Secrets) > 0 {
		secret = e.config.Secrets[0]
	}
	l.Sealer = audit.NewSealer(secret)
	log := audit.Config{Log: s, Sealer: l.Sealer, Logger: e.logger, Now: now, Name: e.config.Name}
	l.Audit, l.keeper = audit.Start(log), audit.Keep(log, e.config.AuditRetention)
	l.pruner = session.Prune(s, now, e.logger)
	config := verify.Config{
		Store:   s,
		Lease:   l.Lease,
		Flights: l.Flights,
		Minter:  minter,
		Slots:   e.slots,
		Uses:    l.Recorder,
		Logger:  e.logger,
		Meter:   e.config.Meter,
		Secrets: e.config.Secrets,
	}
	if e.config.AdoptKeys && len(e.config.Secrets) > 0 {
		l.Adopt = adopt.New(adopt.Config{
			Store:      s,
			Secrets:    e.config.Secrets,
			MaxEntries: verify.DefaultMaxEntries,
			Processors: runtime.GOMAXPROCS(0),
			Logger:     e.logger,
			Now:        now,
		})
		config.Adopt = l.Adopt
	}
	if e.proofs != nil {
		config.Proofs = e.proofs
	}
	l.Verifier = verify.New(config)
	l.Follower = coherence.Start(coherence.Config{
		Store:       s,
		Cache:       l.Verifier,
		Lease:       l.Lease,
		Flights:     l.Flights,
		Name:        e.config.Name,
		Logger:      e.logger,
		Now:         now,
		KeepOnLapse: e.config.KeepOnLapse,
	})
	l.Revoker = l.Follower.Revoker()
	l.Signer, l.Published = assertion.Start(s, now, e.logger), assertion.NewPublished(s, now)
	return l
}
