// Package usage writes behind what requests leave in memory: when each key was
// last used.
//
// A request pays one atomic store. A [Recorder] collects the marks that changed
// and writes them in one batch per interval; a crash loses one interval at
// most, and a single use is never lost to throttling.
package usage

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/worker"
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
	// The oldest use that waits in the queue, and of those that a flush has taken;
	// zero for none. Guarded by mu.
	waiting, taken time.Time
	unwritten      int // keys that a flush has taken

	flushing sync.Mutex
	pending  map[store.ID]time.Time // guarded by flushing

	worker *worker.Worker
}

// Start makes a recorder that flushes every interval until [Recorder.Close].
func Start(sink Sink, interval time.Duration, logger *slog.Logger) *Recorder {
	r := &Recorder{sink: sink, logger: logger, pending: make(map[store.ID]time.Time)}
	r.worker = worker.Start(worker.Work{
		Turn:      r.Flush,
		Every:     interval,
		Later:     true,
		Failing:   func(err error) { logger.Error("last use not written, will be tried again", slog.Any("error", err)) },
		Recovered: func() { logger.Info("last use is written again") },
	})
	return r
}

// Touch notes that the key of the mark was used at this time. A nil recorder ignores it.
func (r *Recorder) Touch(m *Mark, at time.Time) {
	if r == nil || !m.raise(at) {
		return
	}
	r.mu.Lock()
	if len(r.queue) == 0 {
		r.waiting = at
	}
	r.queue = append(r.queue, m)
	r.mu.Unlock()
}

// Stats are figures of a recorder.
type Stats struct {
	// Waiting is how many uses are not written yet, one for each key; those of a key
	// whose last attempt failed may be counted twice.
	Waiting int
	// Oldest is since when the oldest of them waits; zero for none.
	Oldest time.Time
}

// Stats returns the figures.
func (r *Recorder) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Stats{Waiting: len(r.queue) + r.unwritten, Oldest: r.taken}
	if s.Oldest.IsZero() {
		s.Oldest = r.waiting
	}
	return s
}

// Flush writes everything noted so far. What the store did not take is tried
// again by the next flush.
func (r *Recorder) Flush(ctx context.Context) error {
	r.flushing.Lock()
	defer r.flushing.Unlock()

	r.mu.Lock()
	queue := r.queue
	r.queue = nil
	if r.taken.IsZero() {
		r.taken = r.waiting
	}
	r.waiting = time.Time{}
	r.mu.Unlock()

	for _, m := range queue {
		use := m.take()
		if use.At.After(r.pending[use.ID]) {
			r.pending[use.ID] = use.At
		}
	}
	r.takes(len(r.pending))
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
	r.takes(0)
	return nil
}

// takes notes how many keys' uses a flush has in its hands.
func (r *Recorder) takes(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unwritten = n
	if n == 0 {
		r.taken = time.Time{}
	}
}

// Close ends the interval's loop and writes what is left, bounded by ctx.
func (r *Recorder) Close(ctx context.Context) error {
	r.worker.Close()
	return r.Flush(ctx)
}

// Mark remembers the last use of one key until it is written. It lives in the
// cache entry of its key; a mark that waits to be written outlives the entry.
type Mark struct {
	id    store.ID
	last  atomic.Int64 // microseconds since the Unix epoch
	dirty atomic.Bool
}

// NewMark makes the mark of a key that was not used yet.
func NewMark(id store.ID) *Mark { return &Mark{id: id} }

// raise moves the last use forward to at and reports whether the mark was
// clean, so that it has to be queued.
func (m *Mark) raise(at time.Time) bool {
	us := at.UnixMicro()
	for last := m.last.Load(); us > last; last = m.last.Load() {
		if m.last.CompareAndSwap(last, us) {
			break
		}
	}
	return !m.dirty.Load() && m.dirty.CompareAndSwap(false, true)
}

// take gives the use to write. The mark is clean before its time is read: a use
// that comes between the two is queued again rather than lost.
func (m *Mark) take() store.Use {
	m.dirty.Store(false)
	return store.Use{ID: m.id, At: time.UnixMicro(m.last.Load()).UTC()}
}
