// Package usage writes when each key was last used. It writes behind the requests.
//
// A request pays one atomic store. A [Recorder] collects the last-use marks that changed,
// and writes them in one batch per interval. A crash loses one interval at most. A single
// use is never lost to throttling.
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

// flushTimeout bounds one write, so that a store that hangs delays a shutdown no longer.
const flushTimeout = 5 * time.Second

// Sink takes a batch of last uses; [store.Store] is one.
type Sink interface {
	RecordUse(ctx context.Context, uses []store.Use) error
}

// Recorder writes last-use marks behind. It is safe for concurrent use. It keeps the uses
// that could not be written, one per key, and tries them again.
type Recorder struct {
	sink Sink

	mu    sync.Mutex // guards the fields up to pendingKeys
	queue []*LastUse
	// oldestQueued is the first use in the queue, and oldestPending that of the uses that a
	// flush has taken. Both are zero for none.
	oldestQueued, oldestPending time.Time
	pendingKeys                 int // the length of pending, for Stats

	flushing sync.Mutex
	pending  map[store.ID]time.Time // taken and not written yet; guarded by flushing

	worker *worker.Worker
}

// Start makes a recorder that flushes every interval until [Recorder.Close].
func Start(sink Sink, interval time.Duration, logger *slog.Logger) *Recorder {
	r := &Recorder{sink: sink, pending: make(map[store.ID]time.Time)}
	r.worker = worker.Start(worker.Work{
		Turn:      r.Flush,
		Every:     interval,
		Later:     true,
		Failing:   func(err error) { logger.Error("last use not written, will be tried again", slog.Any("error", err)) },
		Recovered: func() { logger.Info("last use is written again") },
	})
	return r
}

// Touch notes that the key of the mark was used at this time. A nil recorder does nothing.
func (r *Recorder) Touch(m *LastUse, at time.Time) {
	if r == nil || !m.raise(at) {
		return
	}
	r.mu.Lock()
	if len(r.queue) == 0 {
		r.oldestQueued = at
	}
	r.queue = append(r.queue, m)
	r.mu.Unlock()
}

// Stats are figures of a recorder.
type Stats struct {
	// Waiting is how many keys have a last use that is not written yet. A key may count
	// twice if a write has failed and the key was used again.
	Waiting int
	// Oldest is the time of the oldest use that is not written, or zero if there is none.
	Oldest time.Time
}

// Stats returns the figures.
func (r *Recorder) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Stats{Waiting: len(r.queue) + r.pendingKeys, Oldest: r.oldestPending}
	if s.Oldest.IsZero() {
		s.Oldest = r.oldestQueued
	}
	return s
}

// Flush writes every use that was noted so far. If the store fails, the next flush tries
// again.
func (r *Recorder) Flush(ctx context.Context) error {
	r.flushing.Lock()
	defer r.flushing.Unlock()

	r.mu.Lock()
	queue := r.queue
	r.queue = nil
	if r.oldestPending.IsZero() {
		r.oldestPending = r.oldestQueued
	}
	r.oldestQueued = time.Time{}
	r.mu.Unlock()

	// A key that was used since a write has failed has one entry all the same, the later one.
	for _, m := range queue {
		use := m.take()
		if use.At.After(r.pending[use.ID]) {
			r.pending[use.ID] = use.At
		}
	}
	r.setPendingKeys(len(r.pending))
	if len(r.pending) == 0 {
		return nil
	}
	batch := make([]store.Use, 0, len(r.pending))
	for id, at := range r.pending {
		batch = append(batch, store.Use{ID: id, At: at})
	}
	// Instances that lock rows in the same order cannot deadlock each other.
	slices.SortFunc(batch, func(a, b store.Use) int { return bytes.Compare(a.ID[:], b.ID[:]) })

	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if err := r.sink.RecordUse(ctx, batch); err != nil {
		return err
	}
	clear(r.pending)
	r.setPendingKeys(0)
	return nil
}

// setPendingKeys tells [Recorder.Stats] how many uses the flush has taken.
func (r *Recorder) setPendingKeys(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pendingKeys = n
	if n == 0 {
		r.oldestPending = time.Time{}
	}
}

// Close stops the worker and writes the remaining uses, bounded by ctx. The error is that
// of the store.
func (r *Recorder) Close(ctx context.Context) error {
	r.worker.Close()
	return r.Flush(ctx)
}

// LastUse is the last-use mark of one key. It is a part of the key's slot in memory, and
// outlives the slot while it waits to be written.
type LastUse struct {
	id    store.ID
	last  atomic.Int64 // microseconds since the Unix epoch
	dirty atomic.Bool  // it is queued
}

// NewLastUse makes a mark for a key that was not used yet.
func NewLastUse(id store.ID) *LastUse { return &LastUse{id: id} }

// raise moves the last use forward to at. It reports whether the mark was clean, so that
// the caller has to queue it.
func (m *LastUse) raise(at time.Time) bool {
	us := at.UnixMicro()
	for last := m.last.Load(); us > last; last = m.last.Load() {
		if m.last.CompareAndSwap(last, us) {
			break
		}
	}
	return !m.dirty.Load() && m.dirty.CompareAndSwap(false, true)
}

// take returns the use to write. It makes the mark clean before it reads the time, so that
// a use between the two steps is queued again and not lost.
func (m *LastUse) take() store.Use {
	m.dirty.Store(false)
	return store.Use{ID: m.id, At: time.UnixMicro(m.last.Load()).UTC()}
}
