package session

import (
	"context"
	"log/slog"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

const (
	// pruneInterval is how often what is over is looked for.
	pruneInterval = 10 * time.Minute
	pruneTimeout  = 10 * time.Second
	pruneLimit    = 1000
	// grace is how long after its end a nonce is kept: an instance whose clock is
	// behind would take it once more.
	grace = time.Hour
)

// Pruner removes sessions and nonces that are over, in the background. Any number
// of instances may do so at the same time.
type Pruner struct {
	sessions store.Sessions
	now      func() time.Time
	logger   *slog.Logger
	stop     context.CancelFunc
	done     chan struct{}
	failing  bool // was complained about, and has not succeeded since
}

// Prune removes what is over by the clock now, at once and every ten minutes,
// until [Pruner.Close].
func Prune(sessions store.Sessions, now func() time.Time, logger *slog.Logger) *Pruner {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Pruner{sessions: sessions, now: now, logger: logger, stop: cancel, done: make(chan struct{})}
	go p.run(ctx)
	return p
}

// Close ends the background work.
func (p *Pruner) Close() {
	p.stop()
	<-p.done
}

func (p *Pruner) run(ctx context.Context) {
	defer close(p.done)
	tick := time.NewTicker(pruneInterval)
	defer tick.Stop()
	for {
		p.prune(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// prune goes on as long as something is removed. What fails is logged once, and
// tried again at the next tick.
func (p *Pruner) prune(ctx context.Context) {
	for {
		attempt, cancel := context.WithTimeout(ctx, pruneTimeout)
		n, err := p.sessions.PruneSessions(attempt, p.now().Add(-grace), pruneLimit)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil && !p.failing {
			p.logger.Warn("sessions that are over are not removed", slog.Any("error", err))
		}
		p.failing = err != nil
		if err != nil || n == 0 {
			return
		}
	}
}
