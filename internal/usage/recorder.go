package usage

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// flushTimeout bounds one write, so that a store that hangs cannot hold a
// shutdown for longer.
const flushTimeout = 5 * time.Second

// Sink takes a batch of last uses; [store.Store] is one.
type Sink interface {
	RecordUse(ctx context.Context, uses []store.Use) error
}

// Recorder writes marks behind. It is safe for concurrent use. What could not
// be written is kept, one entry per key, and tried again.
type Recorder struct {
	sink   Sink
	logger *slog.Logger

	mu    sync.Mutex
	queue []*Mark

	flushing sync.Mutex
	pending  map[store.ID]time.Time // guarded by flushing

	stop func()
	done chan struct{}
}

// Start makes a recorder that flushes every interval until [Recorder.Close].
func Start(sink Sink, interval time.Duration, logger *slog.Logger) *Recorder {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Recorder{
		sink:    sink,
		logger:  logger,
		pending: make(map[store.ID]time.Time),
		stop:    cancel,
		done:    make(chan struct{}),
	}
	go r.run(ctx, interval)
	return r
}

// Touch notes that the key of the mark was used at this time.
func (r *Recorder) Touch(m *Mark, at time.Time) {
	if !m.raise(at) {
		return
	}
	r.mu.Lock()
	r.queue = append(r.queue, m)
	r.mu.Unlock()
}

// Flush writes everything noted so far. What the store did not take is tried
// again by the next flush.
func (r *Recorder) Flush(ctx context.Context) error {
	r.flushing.Lock()
	defer r.flushing.Unlock()

	r.mu.Lock()
	queue := r.queue
	r.queue = nil
	r.mu.Unlock()

	for _, m := range queue {
		use := m.take()
		if use.At.After(r.pending[use.ID]) {
			r.pending[use.ID] = use.At
		}
	}
	if len(r.pending) == 0 {
		return nil
	}
	batch := make([]store.Use, 0, len(r.pending))
	for id, at := range r.pending {
		batch = append(batch, store.Use{ID: id, At: at})
	}
	// One order everywhere: instances that lock rows in the same order cannot
	// deadlock each other.
	slices.SortFunc(batch, func(a, b store.Use) int { return bytes.Compare(a.ID[:], b.ID[:]) })

	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if err := r.sink.RecordUse(ctx, batch); err != nil {
		return err
	}
	clear(r.pending)
	return nil
}

// Close ends the interval's loop and writes what is left, bounded by ctx.
func (r *Recorder) Close(ctx context.Context) error {
	r.stop()
	<-r.done
	return r.Flush(ctx)
}

func (r *Recorder) run(ctx context.Context, interval time.Duration) {
	defer close(r.done)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := r.Flush(ctx)
		switch {
		case err != nil && !failing && ctx.Err() == nil:
			r.logger.Error("last use not written, will be tried again", slog.Any("error", err))
		case err == nil && failing:
			r.logger.Info("last use is written again")
		}
		failing = err != nil
	}
}
