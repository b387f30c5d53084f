package audit

import (
	"context"
	"log/slog"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

const (
	// sealInterval is how soon a record of the command line or of plain SQL is
	// sealed.
	sealInterval = 2 * time.Second
	sealLimit    = 1000
	// pruneInterval is how often old records are looked for.
	pruneInterval = 10 * time.Minute
	pruneLimit    = 5000
	keepTimeout   = 10 * time.Second
)

// Keeper looks after the log in the background. Any number of instances may do so
// at the same time.
type Keeper struct {
	config    Config
	retention time.Duration
	stop      context.CancelFunc
	done      chan struct{}
	failing   map[string]bool // what was complained about and has not succeeded since
}

// Keep seals what is not sealed, and removes what is older than retention, until
// [Keeper.Close].
func Keep(config Config, retention time.Duration) *Keeper {
	ctx, cancel := context.WithCancel(context.Background())
	k := &Keeper{
		config: config, retention: retention, stop: cancel, done: make(chan struct{}), failing: make(map[string]bool),
	}
	go k.run(ctx)
	return k
}

// Close ends the background work.
func (k *Keeper) Close() {
	k.stop()
	<-k.done
}

func (k *Keeper) run(ctx context.Context) {
	defer close(k.done)
	seal, prune := time.NewTicker(sealInterval), time.NewTicker(pruneInterval)
	defer seal.Stop()
	defer prune.Stop()
	k.repeat(ctx, "old audit records are not removed", pruneLimit, k.prune)
	for {
		select {
		case <-ctx.Done():
			return
		case <-seal.C:
			k.repeat(ctx, "audit records are not sealed", sealLimit, k.seal)
		case <-prune.C:
			k.repeat(ctx, "old audit records are not removed", pruneLimit, k.prune)
		}
	}
}

func (k *Keeper) seal(ctx context.Context) (int, error) {
	return k.config.Log.SealAudit(ctx, sealLimit, k.config.Sealer)
}

func (k *Keeper) prune(ctx context.Context) (int, error) {
	return k.config.Log.PruneAudit(ctx, k.config.Now().Add(-k.retention), pruneLimit, k.config.Sealer)
}

// repeat goes on as long as a step does as much as it may. What fails is logged
// once, and tried again at the next tick.
func (k *Keeper) repeat(ctx context.Context, complaint string, limit int, step func(context.Context) (int, error)) {
	for {
		attempt, cancel := context.WithTimeout(ctx, keepTimeout)
		n, err := step(attempt)
		cancel()
		if err != nil && ctx.Err() == nil && !k.failing[complaint] {
			k.config.Logger.Warn("audit log is not looked after", slog.String("what", complaint), slog.Any("error", err))
		}
		k.failing[complaint] = err != nil
		if err != nil || n < limit {
			return
		}
	}
}

var _ store.Sealer = (*Sealer)(nil)
