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

// maxRenewals bounds the keys that wait to be rehashed. One that finds no
// place is offered again when it is next looked up.
const maxRenewals = 64

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
	v      *Verifier
	queue  chan renewal
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	waiting map[store.ID]struct{}
	resume  time.Time // nothing is taken before; set after a failure
}

// renewalPause is how long the renewer rests after a failure. Each attempt costs
// a whole Argon2id, and what failed once, such as a role that may not update,
// will most likely fail again.
const renewalPause = time.Minute

func startRenewer(v *Verifier) *renewer {
	ctx, cancel := context.WithCancel(context.Background())
	r := &renewer{
		v:       v,
		queue:   make(chan renewal, maxRenewals),
		cancel:  cancel,
		done:    make(chan struct{}),
		waiting: make(map[store.ID]struct{}),
	}
	go r.run(ctx)
	return r
}

func (r *renewer) offer(job renewal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.waiting[job.id]; ok || r.v.config.Now().Before(r.resume) {
		return
	}
	select {
	case r.queue <- job:
		r.waiting[job.id] = struct{}{}
	default:
	}
}

func (r *renewer) close() {
	r.cancel()
	<-r.done
}

func (r *renewer) run(ctx context.Context) {
	defer close(r.done)
	for {
		select {
		case <-ctx.Done():
			return
		case job := <-r.queue:
			err := r.renew(ctx, job)
			r.mu.Lock()
			delete(r.waiting, job.id)
			if err != nil {
				r.drop()
				r.resume = r.v.config.Now().Add(renewalPause)
			}
			r.mu.Unlock()
			if err != nil && ctx.Err() == nil {
				r.v.config.Logger.Warn("key not rehashed, no more are for a while",
					slog.String("key_id", job.id.String()), slog.Any("error", err))
			}
		}
	}
}

// drop empties the queue. The caller holds the lock.
func (r *renewer) drop() {
	for {
		select {
		case job := <-r.queue:
			delete(r.waiting, job.id)
		default:
			return
		}
	}
}

// renew changes the row and then keeps the proof: before, it would take the
// place of the proof for the hash that is there. An instance that looks between
// the two computes the new hash once more. A conflict means that somebody
// else changed the row first, another instance with the same idea for the most
// part, and is no failure.
func (r *renewer) renew(ctx context.Context, job renewal) error {
	hash, err := r.v.config.Slots.Hash(ctx, job.key)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	err = r.v.config.Store.RehashKey(ctx, job.id, job.old, hash)
	switch {
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	fingerprint := coherence.Fingerprint(hash)
	r.v.known.keep(job.id, fingerprint, job.digest)
	r.v.prover.keep(ctx, job.id, fingerprint, job.digest)
	r.v.config.Logger.Info("key rehashed with the configured parameters", slog.String("key_id", job.id.String()))
	return nil
}
