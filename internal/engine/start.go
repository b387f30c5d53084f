package engine

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/assertion"
	"github.com/lumio-vision/caddy-system-keys/internal/audit"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/observe"
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
	firstWait = 3 * time.Second
	minPause  = 100 * time.Millisecond
	maxPause  = 2 * time.Second
)

// Start opens the store, migrates it and makes the engine live. It returns when
// that is done and the instance has its first lease; with an error if the store is embedded and cannot be opened; or
// after a few seconds if a server does not answer, and goes on trying. A second
// Start, by another configuration that shares the engine, only waits.
func (e *Engine) Start(ctx context.Context) error {
	if err := e.begin(ctx); err != nil {
		return err
	}
	patience := time.NewTimer(firstWait)
	defer patience.Stop()
	select {
	case <-e.opened:
	case <-patience.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
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

// begin opens an embedded store, or begins to try to open a server.
func (e *Engine) begin(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed.Load():
		return store.ErrClosed
	case e.started:
		return nil
	case e.config.Embedded:
		attempt, cancel := context.WithTimeout(ctx, openTimeout)
		defer cancel()
		if err := e.open(attempt); err != nil {
			return err
		}
		e.started = true
		e.cancel = func() {}
		close(e.done)
	default:
		e.started = true
		var background context.Context
		background, e.cancel = context.WithCancel(context.Background())
		go e.keepOpening(background)
	}
	return nil
}

// keepOpening tries until the store is open. It says so once when it begins to
// wait, and once when it need not any more.
func (e *Engine) keepOpening(ctx context.Context) {
	defer close(e.done)
	pause := minPause
	for attempt := 1; ; attempt++ {
		try, cancel := context.WithTimeout(ctx, openTimeout)
		err := e.open(try)
		cancel()
		if err == nil {
			if attempt > 1 {
				e.logger.Info("store is open", slog.Int("attempts", attempt))
			}
			return
		}
		if ctx.Err() != nil {
			return
		}
		if attempt == 1 {
			e.logger.Error("store cannot be opened, requests get 503 until it can", slog.Any("error", err))
		}
		spread := pause/2 + rand.N(pause) //nolint:gosec // keeps instances from trying in step
		select {
		case <-ctx.Done():
			return
		case <-time.After(spread):
		}
		pause = min(2*pause, maxPause)
	}
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
	close(e.opened)
	return nil
}

// assemble makes the parts and starts to follow the store.
func (e *Engine) assemble(s store.Store, minter *token.Minter) *Live {
	now := time.Now //nolint:forbidigo // the real clock is wired here
	var meter observe.Meter = observe.Unmetered{}
	if e.config.Meter != nil {
		meter = e.config.Meter
	}
	s = &observe.Store{Store: s, System: e.config.System, Meter: meter, Now: now}
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
	l.Audit, l.Keeper = audit.Start(log), audit.Keep(log, e.config.AuditRetention)
	l.Pruner = session.Prune(s, now, e.logger)
	config := verify.Config{
		Store:   s,
		Lease:   l.Lease,
		Flights: l.Flights,
		Minter:  minter,
		Slots:   e.slots,
		Uses:    l.Recorder,
		Logger:  e.logger,
		Secrets: e.config.Secrets,
	}
	if e.config.AdoptKeys {
		config.Foreign = s
	}
	if e.proofs != nil {
		config.Proofs = &observe.Redis{Cache: e.proofs, Meter: meter, Now: now}
	}
	if e.config.Meter != nil {
		config.Meter = e.config.Meter
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
