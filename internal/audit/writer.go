// Package audit writes the audit log, chains its records, and bounds its size.
//
// A [Sealer] chains records by an HMAC under the installation's secret. [Verify] finds a
// record that was changed, moved or removed. A [Writer] writes the records of requests
// behind, with bounded memory. If it has to drop records, a record of its own says so. A
// [Keeper] seals the records that other programs wrote, and removes old ones.
package audit

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/internal/worker"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Defaults and bounds of a [Writer].
const (
	// DefaultCapacity is how many records wait at most, about 10 MB.
	DefaultCapacity = 16384
	// DefaultInterval is how often the records are written. A crash loses that much.
	DefaultInterval = time.Second
	// batchSize is how many records are written in one transaction. The more there are, the
	// more of one key share a row of the store.
	batchSize = 4096
	// writeTimeout bounds one transaction.
	writeTimeout = 5 * time.Second
)

// Config is what a [Writer] needs. Log, Sealer, Logger and Now are required.
type Config struct {
	Log    store.AuditLog
	Sealer store.Sealer
	Logger *slog.Logger
	Now    func() time.Time
	// Name names this instance in the records that it writes about itself.
	Name string
	// Capacity is [DefaultCapacity] and Interval is [DefaultInterval] if it is zero.
	Capacity int
	Interval time.Duration
}

// Writer writes records behind, in a chain of its own. [Writer.Add] never waits. It drops a
// record that does not fit, and counts it. Once records can be written again, the record of
// a gap says how many are missing. Writer is safe for concurrent use.
type Writer struct {
	config  Config
	chain   store.ID
	labels  *labels
	denials *denialLimiter
	worker  *worker.Worker // is woken when a batch is full

	mu      sync.Mutex
	queue   []store.AuditRecord
	dropped gap
	lost    int64 // records that were dropped since the start

	writing sync.Mutex
	batch   []store.AuditRecord // taken and not written yet; guarded by writing

	closing atomic.Bool
}

// gap describes the records that were dropped since the last record of a gap.
type gap struct {
	records     int64
	first, last time.Time
}

// Start starts a writer. It writes every interval, and sooner if many records wait, until
// [Writer.Close].
func Start(config Config) *Writer {
	if config.Capacity <= 0 {
		config.Capacity = DefaultCapacity
	}
	if config.Interval <= 0 {
		config.Interval = DefaultInterval
	}
	w := &Writer{
		config:  config,
		chain:   store.ID(uuid.New()),
		labels:  newLabels(config.Log),
		denials: newDenialLimiter(),
	}
	w.worker = worker.Start(worker.Work{
		// A write that has begun is finished when the worker stops. [Writer.Close] waits.
		Turn:  func(ctx context.Context) error { return w.Flush(context.WithoutCancel(ctx)) },
		Every: config.Interval,
		Later: true,
		Failing: func(err error) {
			config.Logger.Warn("audit records are not written, they wait in memory", slog.Any("error", err))
		},
		Recovered: func() { config.Logger.Info("audit records are written again") },
	})
	return w
}

// Add queues a record. If there is no room, it drops and counts the record. So a flood does not
// push out the records from before it.
func (w *Writer) Add(r store.AuditRecord) {
	r = r.Clean()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) >= w.config.Capacity {
		w.drop(1, r.At, r.At)
		return
	}
	w.queue = append(w.queue, r)
	if len(w.queue) == batchSize {
		w.worker.Wake()
	}
}

// Deny queues the record of a denial, or skips it if there are too many. A client that goes
// on with a bad key must not push out the records of good keys. The next record of the key
// says how many were skipped. If there is no such record, the record of a gap counts them.
func (w *Writer) Deny(r store.AuditRecord) {
	ok, skipped := w.denials.allow(r.Key.ID, r.At)
	if !ok {
		return
	}
	if skipped > 0 {
		r.Details = withSkipped(r.Details, skipped)
	}
	w.Add(r)
}

// drop counts records that are not written. The caller holds the lock.
func (w *Writer) drop(n int64, first, last time.Time) {
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
	// Capacity is how many records fit into the queue.
	Capacity int
	// Dropped is how many records were dropped since the last gap was recorded.
	Dropped int64
	// Lost is how many records were dropped since the writer was started.
	Lost int64
}

// Stats returns the figures.
func (w *Writer) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Stats{Waiting: len(w.queue), Capacity: w.config.Capacity, Dropped: w.dropped.records, Lost: w.lost}
}

// Flush writes every record that was added so far, and the record of a gap if some were
// dropped. If the store fails, the next flush tries again.
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

// take moves the oldest records into the batch, and reports whether there are any. Their
// room in the queue is free from then on, so one batch is in memory beside a full queue.
//
// A store keeps neighbours of one key in one row, which costs less. So the records are
// written key by key, in the order of their ids.
func (w *Writer) take() bool {
	gap := w.unqueue(w.denials.takeUncounted(w.closing.Load()))
	slices.SortFunc(w.batch, func(a, b store.AuditRecord) int { // requests do not wait for it
		return cmp.Or(bytes.Compare(a.Key.ID[:], b.Key.ID[:]), cmp.Compare(a.Event, b.Event), bytes.Compare(a.ID[:], b.ID[:]))
	})
	w.batch = append(w.batch, gap...)
	return len(w.batch) > 0
}

// unqueue moves the oldest records into the batch, and returns the record of a gap, if there
// is one.
func (w *Writer) unqueue(uncounted int64) (gapRecord []store.AuditRecord) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := w.config.Now(); uncounted > 0 {
		w.drop(uncounted, now, now)
	}
	n := min(batchSize, len(w.queue))
	w.batch = append(w.batch[:0], w.queue[:n]...)
	rest := copy(w.queue, w.queue[n:])
	// Cleared, so that the texts of the records can be freed.
	clear(w.queue[rest:])
	w.queue = w.queue[:rest]
	if w.dropped.records > 0 {
		gapRecord = []store.AuditRecord{w.gapRecord()}
		w.dropped = gap{}
	}
	return gapRecord
}

// gapRecord says how many records were dropped, and when. The caller holds the lock.
func (w *Writer) gapRecord() store.AuditRecord {
	details, err := json.Marshal(map[string]any{
		"dropped": w.dropped.records, "first": w.dropped.first.UTC(), "last": w.dropped.last.UTC(),
	})
	if err != nil { // cannot happen with numbers and times
		panic(err)
	}
	return store.AuditRecord{
		Event:   store.AuditGap,
		At:      w.config.Now(),
		Actor:   store.AuditActor{Type: store.ActorServer, ID: w.config.Name},
		Details: details,
	}.Clean()
}

// write writes the batch. A conflict means that the batch is there already: an earlier
// attempt has written it, and its answer was lost.
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

// Close stops the worker and writes the remaining records, bounded by ctx. If that fails, it
// logs how many records are lost, and returns the error.
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
