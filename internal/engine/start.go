package engine

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

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
// that is done; with an error if the store is embedded and cannot be opened; or
// after a few seconds if a server does not answer, and goes on trying. A second
// Start, by another configuration that shares the engine, only waits.
func (e *Engine) Start(ctx context.Context) error {
	e.mu.Lock()
	if e.closed.Load() {
		e.mu.Unlock()
		return store.ErrClosed
	}
	if !e.started && e.config.Embedded {
		defer e.mu.Unlock()
		attempt, cancel := context.WithTimeout(ctx, openTimeout)
		defer cancel()
		if err := e.open(attempt); err != nil {
			return err
		}
		e.started = true
		e.cancel = func() {}
		close(e.done)
		return nil
	}
	if !e.started {
		e.started = true
		var background context.Context
		background, e.cancel = context.WithCancel(context.Background())
		go e.keepOpening(background)
	}
	e.mu.Unlock()

	patience := time.NewTimer(firstWait)
	defer patience.Stop()
	select {
	case <-e.opened:
	case <-patience.C:
	case <-ctx.Done():
		return ctx.Err()
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
	minter := token.New(mintKey)
	recorder := usage.Start(s, e.config.LastUsedInterval, e.logger)
	config := verify.Config{
		Store:   s,
		Minter:  minter,
		Slots:   e.slots,
		Uses:    recorder,
		Logger:  e.logger,
		Secrets: e.config.Secrets,
		Trust:   e.config.Trust,
	}
	if e.proofs != nil {
		config.Proofs = e.proofs
	}
	e.live.Store(&Live{
		Store:    s,
		Minter:   minter,
		Verifier: verify.New(config),
		Slots:    e.slots,
		Recorder: recorder,
	})
	close(e.opened)
	return nil
}
