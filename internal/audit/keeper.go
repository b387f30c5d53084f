package audit

import (
	"context"
	"log/slog"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/worker"
	"github.com/lumio-vision/caddy-system-keys/store"
)

const (
	// sealInterval is how soon a record is sealed that the command line or plain SQL has
	// written. sealLimit is how many are sealed in one call.
	sealInterval = 2 * time.Second
	sealLimit    = 1000
	// pruneInterval is how often the log is searched for old records. pruneLimit is how
	// many are removed in one call.
	pruneInterval = 10 * time.Minute
	pruneLimit    = 5000
	keepTimeout   = 10 * time.Second // of one call
)

// Keeper seals and prunes the log in the background. Any number of instances may do so at
// the same time.
type Keeper struct{ seal, prune *worker.Worker }

// Keep seals records that are not sealed yet, and removes records that are older than
// retention, until [Keeper.Close].
func Keep(config Config, retention time.Duration) *Keeper {
	log := config.Log
	// Each step works on a bounded number of records, and is repeated while it finds as many.
	seal := func(ctx context.Context) (more bool, err error) {
		n, err := log.SealAudit(ctx, sealLimit, config.Sealer)
		return n >= sealLimit, err
	}
	prune := func(ctx context.Context) (more bool, err error) {
		n, err := log.PruneAudit(ctx, config.Now().Add(-retention), pruneLimit, config.Sealer)
		return n >= pruneLimit, err
	}
	failing := func(what string) func(error) {
		return func(err error) {
			config.Logger.Warn("audit log is not looked after", slog.String("what", what), slog.Any("error", err))
		}
	}
	return &Keeper{
		seal: worker.Start(worker.Work{
			Turn:    func(ctx context.Context) error { return worker.Repeat(ctx, keepTimeout, seal) },
			Every:   sealInterval,
			Later:   true,
			Failing: failing("audit records are not sealed"),
		}),
		prune: worker.Start(worker.Work{
			Turn:    func(ctx context.Context) error { return worker.Repeat(ctx, keepTimeout, prune) },
			Every:   pruneInterval,
			Failing: failing("old audit records are not removed"),
		}),
	}
}

// Close ends the background work, and waits for the calls that are running.
func (k *Keeper) Close() {
	k.seal.Close()
	k.prune.Close()
}

var _ store.Sealer = (*Sealer)(nil)
