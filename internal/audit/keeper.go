package audit

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/worker"
	"github.com/lumio-vision/caddy-system-keys/store"
)

const (
	// sealInterval is how soon records are sealed after [Keeper.Seal], and how soon it is
	// tried again. sealLimit is how many are sealed in one call.
	sealInterval = 2 * time.Second
	sealLimit    = 1000
	// pruneInterval is how often the log is searched for old records. pruneLimit is how
	// many are removed in one call.
	pruneInterval = 10 * time.Minute
	pruneLimit    = 5000
	keepTimeout   = 10 * time.Second // of one call
)

// Keeper seals and prunes the log in the background. Any number of instances may do so at the
// same time: the store does each record once. It is safe for concurrent use.
type Keeper struct {
	seal, prune *worker.Worker
	unsealed    atomic.Bool // there may be records to seal
}

// Keep removes records that are older than retention, and seals records when [Keeper.Seal]
// says so, until [Keeper.Close].
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
	k := new(Keeper)
	failing := func(what string) func(error) {
		return func(err error) {
			config.Logger.Warn("audit log is not looked after", slog.String("what", what), slog.Any("error", err))
		}
	}
	k.seal = worker.Start(worker.Work{
		Turn: func(ctx context.Context) error {
			if !k.unsealed.Swap(false) {
				return nil
			}
			err := worker.Repeat(ctx, keepTimeout, seal)
			if err != nil {
				k.unsealed.Store(true)
			}
			return err
		},
		Every:   sealInterval,
		Later:   true,
		Failing: failing("audit records are not sealed"),
	})
	k.prune = worker.Start(worker.Work{
		Turn:    func(ctx context.Context) error { return worker.Repeat(ctx, keepTimeout, prune) },
		Every:   pruneInterval,
		Failing: failing("old audit records are not removed"),
	})
	return k
}

// Seal says that there are records to seal, which the command line or plain SQL has written.
// They are sealed soon. It does not wait.
func (k *Keeper) Seal() { k.unsealed.Store(true) }

// Close ends the background work, and waits for the calls that are running.
func (k *Keeper) Close() {
	k.seal.Close()
	k.prune.Close()
}

var _ store.Sealer = (*Sealer)(nil)
