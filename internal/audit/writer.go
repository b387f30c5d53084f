// Package audit keeps the audit log honest and bounded.
//
// A [Sealer] chains records by an HMAC under the installation's secret, so that
// one that was changed, moved or taken away shows; [Verify] looks for that. A
// [Writer] writes behind what requests leave, with bounded memory, and says so
// where it had to drop some. A [Keeper] seals what others wrote, and removes what
// is too old.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/internal/worker"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Defaults and bounds of a [Writer].
const (
	// DefaultCapacity is how many records wait at most, some 10 MB of them.
	DefaultCapacity = 16384
	// DefaultInterval is how often they are written; a crash loses so much.
	DefaultInterval = time.Second
	// batchSize is how many are written in one transaction.
	batchSize = 2000
	// writeTimeout bounds one transaction.
	writeTimeout = 5 * time.Second
)

// Config is what a [Writer] needs. Log, Sealer, Logger and Now are required.
type Config struct {
	Log    store.AuditLog
	Sealer store.Sealer
	Logger *slog.Logger
	Now    func() time.Time
	// Name is what this instance is called in records of its own.
	Name string
	// Capacity and Interval are the defaults where they are zero.
	Capacity int
	Interval time.Duration
}

// Writer writes records behind, in a chain of its own. [Writer.Add] never waits:
// what does not fit is dropped and counted, and once records can be written again
// one more says how many are missing. It is safe for concurrent use.
type Writer struct {
	config Config
	chain  store.ID
	labels *labels
	floods *floods
	worker *worker.Worker // is woken when a batch waits

	mu      sync.Mutex
	queue   []store.AuditRecord
	dropped gap
	lost    int64 // since the start

	writing sync.Mutex
	batch   []store.AuditRecord // taken and not written yet; guarded by writing

	closing atomic.Bool
}

// gap is what was dropped since the last record of a gap.
type gap struct {
	records     int64
	first, last time.Time
}

// Start makes a writer that writes every interval, and sooner when many records
// wait, until [Writer.Close].
func Start(config Config) *Writer {
	if config.Capacity <= 0 {
		config.Capacity = DefaultCapacity
	}
	if config.Interval <= 0 {
		config.Interval = DefaultInterval
	}
	w := &Writer{
		config: config,
		chain:  store.ID(uuid.New()),
		labels: newLabels(config.Log),
		floods: newFloods(),
	}
	w.worker = worker.Start(worker.Work{
		Turn:  func(ctx context.Context) error { return w.Flush(context.WithoutCancel(ctx)) },
		Every: config.Interval,
		Later: true,
		Failing: func(err error) {
			config.Logger.Error("audit records are not written, will be tried again", slog.Any("error", err))
		},
		Recovered: func() { config.Logger.Info("audit records are written again") },
	})
	return w
}

// Add queues a record, or drops and counts it if there is no room.
func (w *Writer) Add(r store.AuditRecord) {
	r = r.Clean()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) >= w.config.Capacity {
		w.lose(1, r.At, r.At)
		return
	}
	w.queue = append(w.queue, r)
	if len(w.queue) == batchSize {
		w.worker.Wake()
	}
}

// Deny queues the record of a denial, or holds it back if there are too many of
// its kind: a client that goes on with a bad key must not push out the records of
// good ones. The next record of the key says how many were held back, or else that
// of a gap.
func (w *Writer) Deny(r store.AuditRecord) {
	pass, repeated := w.floods.pass(r.Key.ID, r.At)
	if !pass {
		return
	}
	if repeated > 0 {
		r.Details = withRepeated(r.Details, repeated)
	}
	w.Add(r)
}

// lose is called with the lock held.
func (w *Writer) lose(n int64, first, last time.Time) {
	if w.dropped.records == 0 {
		w.dropped.first = first
	}
	w.dropped.records += n
	w.lost += n
	w.dropped.last = last
}

// Stats are figures of a writer.
type Stats struct {
	// Waiting is how many records are queued.
	Waiting int
	// Capacity is how many may be.
	Capacity int
	// Dropped is how many were dropped since the last gap was recorded.
	Dropped int64
	// Lost is how many were dropped since the writer was started.
	Lost int64
}

// Stats returns the figures.
func (w *Writer) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Stats{Waiting: len(w.queue), Capacity: w.config.Capacity, Dropped: w.dropped.records, Lost: w.lost}
}

// Flush writes everything that was added so far, and a record of what was
// dropped. What the store did not take is tried again by the next flush.
func (w *Writer) Flush(ctx context.Context) error {
	w.writing.Lock()
	defer w.writing.Unlock()
	for {
		if len(w.batch) == 0 && !w.take() {
			return nil
		}
		if err := w.write(ctx); err != nil {
			return err
		}
	}
}

// take moves the oldest records into the batch. The room that they had is free:
// one batch is in memory beside the queue.
func (w *Writer) take() bool {
	forgotten := w.floods.take(w.closing.Load())
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := w.config.Now(); forgotten > 0 {
		w.lose(forgotten, now, now)
	}
	n := min(batchSize, len(w.queue))
	w.batch = append(w.batch[:0], w.queue[:n]...)
	rest := copy(w.queue, w.queue[n:])
	clear(w.queue[rest:])
	w.queue = w.queue[:rest]
	if w.dropped.records > 0 {
		w.batch = append(w.batch, w.gapRecord())
		w.dropped = gap{}
	}
	return len(w.batch) > 0
}

// gapRecord says what was dropped. The caller holds the lock.
func (w *Writer) gapRecord() store.AuditRecord {
	details, err := json.Marshal(map[string]any{
		"dropped": w.dropped.records, "first": w.dropped.first.UTC(), "last": w.dropped.last.UTC(),
	})
	if err != nil { // numbers and times always encode
		panic(err)
	}
	return store.AuditRecord{
		Event:   store.AuditGap,
		At:      w.config.Now(),
		Actor:   store.AuditActor{Type: store.ActorServer, ID: w.config.Name},
		Details: details,
	}.Clean()
}

// write writes the batch. A conflict means that an attempt whose answer was lost
// has written it.
func (w *Writer) write(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := w.labels.fill(ctx, w.batch); err != nil {
		return err
	}
	err := w.config.Log.AppendAudit(ctx, w.chain, w.batch, w.config.Sealer)
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return err
	}
	clear(w.batch)
	w.batch = w.batch[:0]
	return nil
}

// Close ends the loop and writes what is left, bounded by ctx. The error says how
// many records are lost.
func (w *Writer) Close(ctx context.Context) error {
	w.worker.Close()
	w.closing.Store(true)
	err := w.Flush(ctx)
	if err != nil {
		lost := int64(w.Stats().Waiting+len(w.batch)) + w.Stats().Dropped
		w.config.Logger.Error("audit records are lost", slog.Int64("records", lost), slog.Any("error", err))
	}
	return err
}
