package verify

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// lookupTimeout bounds the read of a row, and the write of a new hash.
const lookupTimeout = 2 * time.Second

const (
	// maxRenewals bounds the keys that wait to be rehashed. A key that finds no place is
	// offered again at its next lookup.
	maxRenewals = 64
	// renewalPause is how long the renewer pauses after a failure. Each attempt costs a
	// whole Argon2id. The cause of a failure, such as a database role that may not update,
	// will most likely make the next attempt fail too.
	renewalPause = time.Minute
)

// renewal is a key whose stored hash is weaker than the configured parameters.
type renewal struct {
	id     store.ID
	key    string
	digest [32]byte
	old    store.Hash
}

// renewer replaces weak hashes, one at a time and in the background. No request waits for it.
// It needs the key in clear, which is there only right after a verification.
type renewer struct {
	config *Config
	keep   func(ctx context.Context, id store.ID, fingerprint, digest [32]byte) // the new proof
	queue  chan renewal
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	waiting map[store.ID]struct{}
	resume  time.Time // no key is accepted before; set after a failure
}

func startRenewer(config *Config, keep func(context.Context, store.ID, [32]byte, [32]byte)) *renewer {
	ctx, cancel := context.WithCancel(context.Background())
	r := &renewer{
		config:  config,
		keep:    keep,
		queue:   make(chan renewal, maxRenewals),
		cancel:  cancel,
		waiting: make(map[store.ID]struct{}),
	}
	r.done.Go(func() { r.run(ctx) })
	return r
}

func (r *renewer) close() {
	r.cancel()
	r.done.Wait()
}

// offer queues a key, unless it is queued already or the queue is full.
func (r *renewer) offer(job renewal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.waiting[job.id]; ok || r.config.Now().Before(r.resume) {
		return
	}
	select {
	case r.queue <- job:
		r.waiting[job.id] = struct{}{}
	default:
	}
}

func (r *renewer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case job := <-r.queue:
			err := r.renew(ctx, job)
			r.finish(job, err)
			if err != nil && ctx.Err() == nil {
				r.config.Logger.Warn("key not rehashed, no more are for a while",
					slog.String("key_id", job.id.String()), slog.Any("error", err))
			}
		}
	}
}

// renew changes the row first, and keeps the proof after that. An earlier proof would replace
// the proof for the hash that is still in the row. An instance that reads the row between
// the two steps computes Argon2id once more. A conflict means that somebody else changed the
// row first, most likely another instance that rehashes too. It is no failure.
func (r *renewer) renew(ctx context.Context, job renewal) error {
	hash, err := r.config.Slots.Hash(ctx, job.key)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	err = r.config.Store.RehashKey(ctx, job.id, job.old, hash)
	switch {
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	r.keep(ctx, job.id, coherence.Fingerprint(hash), job.digest)
	r.config.Logger.Info("key rehashed with the configured parameters", slog.String("key_id", job.id.String()))
	return nil
}

// finish allows the key to be offered again. After a failure it empties the queue.
func (r *renewer) finish(job renewal, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, job.id)
	if err == nil {
		return
	}
	r.resume = r.config.Now().Add(renewalPause)
	for range len(r.queue) { // nobody else takes from it
		delete(r.waiting, (<-r.queue).id)
	}
}
