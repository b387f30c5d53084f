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
	// maxRenewals bounds the keys that wait to be rehashed. One that finds no place is
	// offered again when it is next looked up.
	maxRenewals = 64
	// renewalPause is how long the renewer rests after a failure. Each attempt costs a
	// whole Argon2id, and what failed once, such as a role that may not update, will most
	// likely fail again.
	renewalPause = time.Minute
)

// renewal is a key whose stored hash is weaker than what is configured.
type renewal struct {
	id     store.ID
	key    string
	digest [32]byte
	old    store.Hash
}

// renewer replaces weak hashes, one at a time and in the background: a request
// never waits for it. It needs the key in clear, which is only there right
// after a verification.
type renewer struct {
	config *Config
	local  *localProofs
	shared *sharedProofs
	queue  chan renewal
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	waiting map[store.ID]struct{}
	resume  time.Time // nothing is taken before; set after a failure
}

func startRenewer(config *Config, local *localProofs, shared *sharedProofs) *renewer {
	ctx, cancel := context.WithCancel(context.Background())
	r := &renewer{
		config:  config,
		local:   local,
		shared:  shared,
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

// renew changes the row and then keeps the proof: before, it would take the
// place of the proof for the hash that is there. An instance that looks between
// the two computes the new hash once more. A conflict means that somebody
// else changed the row first, another instance with the same idea for the most
// part, and is no failure.
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
	fingerprint := coherence.Fingerprint(hash)
	r.local.keep(job.id, fingerprint, job.digest)
	r.shared.keep(ctx, job.id, fingerprint, job.digest)
	r.config.Logger.Info("key rehashed with the configured parameters", slog.String("key_id", job.id.String()))
	return nil
}

// finish lets the key be offered again. A failure empties the queue.
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
