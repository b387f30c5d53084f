package engine

import (
	"cmp"
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
	"github.com/lumio-vision/caddy-system-keys/internal/expiry"
	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
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
	// startTimeout is how long Start waits for a database server.
	startTimeout = 5 * time.Second
	// minPause and maxPause bound the pause between two attempts.
	minPause = 100 * time.Millisecond
	maxPause = 2 * time.Second
	// logInterval is how often the log repeats why a store cannot be opened.
	logInterval = time.Minute
)

// Failure says why the last attempt to open the store has failed.
type Failure struct {
	Err error
	// Since is the time of the first of the failed attempts.
	Since time.Time
	// Final says that waiting does not help.
	Final bool
}

// Failure returns nil if the store is open, or before the first attempt has ended.
func (e *Engine) Failure() *Failure { return e.failure.Load() }

// Start makes one attempt to open the store and to migrate it, and waits for the first
// lease. If waiting does not help, it returns the error: the database refuses this
// configuration, or the store is embedded. After any other failure, or after a few seconds,
// it returns nil, and the engine goes on trying. A second Start, by another configuration
// that shares the engine, only waits.
func (e *Engine) Start(ctx context.Context) error {
	if err := e.startOpening(); err != nil {
		return err
	}
	wait := startTimeout
	if e.config.Embedded { // its migrations may take longer
		wait = openTimeout
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-e.tried:
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	if failure := e.Failure(); failure != nil {
		if failure.Final {
			return failure.Err
		}
		return nil
	}
	l, err := e.Live()
	if err != nil {
		return err
	}
	select {
	case <-l.Follower.Ready():
	case <-timer.C:
		e.logger.Warn("no lease yet, requests with a key get 503")
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// startOpening starts, once, to open the store and to check the proof cache.
func (e *Engine) startOpening() error {
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
			e.running.Go(func() { e.keepChecking(background) })
		}
	}
	return nil
}

// checkInterval is how often the proof cache is checked, so that an instance at rest notices
// too when it fails, and when it works again.
const checkInterval = time.Minute

// keepChecking checks the proof cache until ctx ends. The cache itself logs what has changed.
func (e *Engine) keepChecking(ctx context.Context) {
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for {
		e.proofs.Check(ctx, verify.ProbeAddress)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// keepOpening makes attempts until the store is open. It logs the first failure, then one
// each minute, and the success.
func (e *Engine) keepOpening(ctx context.Context) {
	now := time.Now //nolint:forbidigo // the real clock is wired here
	var logged time.Time
	began, attempts := now(), 0
	open := func() (struct{}, error) {
		attempts++
		attempt, cancel := context.WithTimeout(ctx, openTimeout)
		err := e.open(attempt)
		cancel()
		if err != nil && ctx.Err() != nil { // the engine is being closed
			return struct{}{}, err
		}
		e.keepFailure(err, now())
		if attempts == 1 {
			close(e.tried)
		}
		if err != nil && e.config.Embedded { // Start returns the error
			return struct{}{}, backoff.Permanent(err)
		}
		if err != nil && now().Sub(logged) >= logInterval {
			logged = now()
			e.logFailure(e.Failure())
		}
		return struct{}{}, err
	}
	pauses := backoff.NewExponentialBackOff() // randomized, so that instances do not try in step
	pauses.InitialInterval, pauses.Multiplier, pauses.MaxInterval = minPause, 2, maxPause
	_, err := backoff.Retry(ctx, open, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(0))
	if err != nil {
		return
	}
	details := []any{slog.String("store", e.config.Where), slog.String("instance", e.config.Name)}
	if attempts > 1 {
		details = append(details, slog.String("after", now().Sub(began).Round(time.Millisecond).String()))
	}
	e.logger.Info("store is open", details...)
}

// logFailure says why no key can be verified.
func (e *Engine) logFailure(failure *Failure) {
	details := []any{slog.Any("error", failure.Err), slog.Time("since", failure.Since)}
	if failure.Final {
		e.logger.Error("the database refuses this configuration", details...)
	} else {
		e.logger.Error("store cannot be opened, requests with a key get 503", details...)
	}
}

// keepFailure keeps the error of an attempt for [Engine.Failure]; nil for a success. The time is
// that of the first failure in a row.
func (e *Engine) keepFailure(err error, at time.Time) {
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

// open makes one attempt. If it fails, it leaves nothing open. The engine is live when it
// returns nil, and may still have no lease.
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
	// Requests find all parts at once, or none.
	e.live.Store(e.assemble(s, token.New(mintKey)))
	return nil
}

// assemble makes the parts and starts to follow the changes of the store. The order matters: the
// follower starts last but for the signer, since it calls the verifier, the keeper and the
// expiry from its first turn on.
func (e *Engine) assemble(s store.Store, minter *token.Minter) *Live {
	now := time.Now //nolint:forbidigo // the real clock is wired here
	// Before any part has the store, so that no call is missed.
	e.observe(s)
	l := &Live{
		Store:    s,
		Minter:   minter,
		Slots:    hashing.NewSlots(e.config.Argon2id, e.config.HashMemory),
		Lease:    coherence.NewLease(e.config.Lease, now),
		InFlight: coherence.NewInFlight(now),
	}
	var secret []byte
	if len(e.config.Secrets) > 0 {
		secret = e.config.Secrets[0]
	}
	l.Sealer = audit.NewSealer(secret)
	l.Recorder = usage.Start(s, e.config.LastUsedInterval, e.logger, func(ctx context.Context) error {
		return s.ReportNetworks(ctx, audit.NewNetwork, l.Sealer)
	})
	log := audit.Config{Log: s, Sealer: l.Sealer, Logger: e.logger, Now: now, Name: e.config.Name}
	l.Audit, l.keeper = audit.Start(log), audit.Keep(log, e.config.AuditRetention)
	l.pruner = session.Prune(s, now, e.logger)
	l.Expiry = expiry.Start(expiry.Config{
		Store: s, Sealer: l.Sealer, Logger: e.logger, Now: now, Name: e.config.Name, Retention: e.config.ExpiredRetention,
	})
	if e.config.AdoptKeys && secret != nil {
		l.Adopt = adopt.New(adopt.Config{
			Store:      s,
			Secrets:    e.config.Secrets,
			MaxEntries: cmp.Or(e.config.KeyEntries, verify.DefaultMaxEntries),
			Processors: runtime.GOMAXPROCS(0),
			Logger:     e.logger,
			Now:        now,
		})
	}
	l.Verifier = verify.New(verify.Config{
		Store:    s,
		Lease:    l.Lease,
		InFlight: l.InFlight,
		Minter:   minter,
		Slots:    l.Slots,
		Proofs:   e.proofs,
		Adopt:    l.Adopt,
		Uses:     l.Recorder,
		Logger:   e.logger,
		Meter:    e.config.Meter,
		Secrets:  e.config.Secrets,

		MaxEntries: e.config.KeyEntries,
		MaxBytes:   e.config.KeyMemory,
	})
	l.Follower = coherence.Start(coherence.Config{
		Store:       s,
		Forget:      l.Verifier.Forget,
		ForgetAll:   l.Verifier.ForgetAll,
		Lease:       l.Lease,
		InFlight:    l.InFlight,
		Name:        e.config.Name,
		Logger:      e.logger,
		Now:         now,
		KeepOnLapse: e.config.KeepOnLapse,
		Unsealed:    l.keeper.Seal,

		ExpiredBefore: l.Expiry.Before,
		Expired:       l.Expiry.Delete,
	})
	l.Revoker = l.Follower.Revoker()
	l.Signer, l.Published = assertion.Start(s, now, e.logger), assertion.NewPublished(s, now)
	return l
}
