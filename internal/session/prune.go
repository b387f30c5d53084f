package session

import (
	"context"
	"log/slog"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/worker"
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

// Prune starts to remove sessions and nonces that are over by the clock now, at once and
// every ten minutes. Any number of instances may do so at the same time.
func Prune(sessions store.Sessions, now func() time.Time, logger *slog.Logger) *worker.Worker {
	step := func(ctx context.Context) (more bool, err error) {
		n, err := sessions.PruneSessions(ctx, now().Add(-grace), pruneLimit)
		return n > 0, err
	}
	return worker.Start(worker.Work{
		Turn:    func(ctx context.Context) error { return worker.Repeat(ctx, pruneTimeout, step) },
		Every:   pruneInterval,
		Failing: func(err error) { logger.Warn("sessions that are over are not removed", slog.Any("error", err)) },
	})
}
