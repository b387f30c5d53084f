// Package usage counts what keys are used for, and writes it behind the requests.
//
// A request pays a few atomic writes. A [Mark] counts the uses of one key: by day, by network,
// and which permissions were asked of it. A [Recorder] collects the marks that changed, and
// writes them in one batch per interval, with the last uses. A crash loses what was not written
// yet: one interval at most while the store answers. A single use of a key is never lost to
// throttling.
package usage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/lumio-vision/caddy-system-keys/internal/worker"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// flushTimeout bounds one write, so that a store that hangs delays a shutdown no longer. What
// could not be written then is lost.
const flushTimeout = 5 * time.Second

// maxKeys is how many keys are counted by their id alone between two writes. If there are more, a
// write is asked for. Until then refusals of other keys, and what was asked of them, are not
// counted.
const maxKeys = 100_000

// Sink takes a batch of uses; [store.Store] is one. If it does not know whether a batch was
// written, it returns an error, and the batch comes again.
type Sink interface {
	RecordUse(ctx context.Context, uses []store.Use) error
}

// Recorder writes behind what marks have counted. It is safe for concurrent use. It keeps what
// could not be written, one entry per key, and tries it again. So memory does not grow with the
// time that the store is away, but with the keys that are used.
type Recorder struct {
	sink   Sink
	report func(ctx context.Context) error // or nil

	details atomic.Int64 // the room that all marks have taken

	mu    sync.Mutex // guards the fields up to pendingKeys
	queue []*Mark
	byID  map[store.ID]*store.Use // what was counted without a mark
	// oldestQueued is the first use in the queue, and oldestPending that of the uses that a
	// flush has taken. Both are zero for none.
	oldestQueued, oldestPending time.Time
	pendingKeys                 int // the length of pending, for Stats

	flushing       sync.Mutex
	pending        map[store.ID]*store.Use // taken and not written yet; guarded by flushing
	pendingDetails int
	unreported     bool // something was written since the last report; guarded by flushing

	worker *worker.Worker
}

// Start makes a recorder that flushes every interval until [Recorder.Close]. Report is called
// after each write, unless it is nil. If it fails, it is called again by the next flush.
func Start(sink Sink, interval time.Duration, logger *slog.Logger, report func(ctx context.Context) error) *Recorder {
	r := &Recorder{
		sink: sink, report: report,
		byID: make(map[store.ID]*store.Use), pending: make(map[store.ID]*store.Use),
	}
	unreported := rate.Sometimes{First: 1, Interval: time.Minute}
	r.worker = worker.Start(worker.Work{
		// A report that fails is no failure of the worker, which would not wake for the first
		// use of a successor then.
		Turn: func(ctx context.Context) error {
			err := r.Flush(ctx)
			if !errors.Is(err, errUnreported) {
				return err
			}
			unreported.Do(func() {
				logger.Warn("new networks of keys are not reported, last uses are written", slog.Any("error", err))
			})
			return nil
		},
		Every: interval,
		Later: true,
		Failing: func(err error) {
			logger.Warn("last uses of keys are not written, they wait in memory", slog.Any("error", err))
		},
		Recovered: func() { logger.Info("last uses of keys are written again") },
	})
	return r
}

// errUnreported marks an error of the report. The uses are written by then.
var errUnreported = errors.New("the uses are written, but not reported")

// Mark makes a mark for a key. That of a nil recorder counts nothing.
func (r *Recorder) Mark(id store.ID) *Mark { return &Mark{recorder: r, id: id} }

// Deny notes that a request with this key was refused. Used says that the request was noted
// as a use before.
//
// A refused request may have no mark: the key may not be in memory.
func (r *Recorder) Deny(id store.ID, at time.Time, used bool) {
	day := store.DayUse{Day: store.DayOf(at), Denied: 1}
	if !used {
		day.Requests = 1
	}
	r.note(id, func(use *store.Use) { addDay(use, day) })
}

// Ask notes that the permission was asked of a key that has no mark here.
func (r *Recorder) Ask(id store.ID, permission string, at time.Time) {
	r.note(id, func(use *store.Use) { addAsked(use, store.AskedPermission{Permission: permission, LastAt: at}) })
}

// note adds to what was counted of a key without its mark. It takes a lock each time, and a mark
// only once between two writes.
func (r *Recorder) note(id store.ID, add func(use *store.Use)) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	use := r.byID[id]
	if use == nil {
		if len(r.byID) >= maxKeys {
			r.worker.Wake()
			return
		}
		use = &store.Use{ID: id}
		r.byID[id] = use
	}
	add(use)
}

// enqueue puts a mark before the next flush. The first mark of the queue has the oldest use, or
// nearly.
func (r *Recorder) enqueue(m *Mark) {
	r.mu.Lock()
	if len(r.queue) == 0 {
		r.oldestQueued = instant(m.last.Load())
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

// Flush writes every use that was noted so far, and reports. If the store fails, the next flush
// tries again. Calls wait for each other. Requests do not wait for a write: the queue is exchanged under its
// own lock.
func (r *Recorder) Flush(ctx context.Context) error {
	r.flushing.Lock()
	defer r.flushing.Unlock()

	r.mu.Lock()
	queue, byID := r.queue, r.byID
	r.queue = nil
	if len(byID) > 0 {
		r.byID = make(map[store.ID]*store.Use)
	}
	if r.oldestPending.IsZero() {
		r.oldestPending = r.oldestQueued
	}
	r.oldestQueued = time.Time{}
	r.mu.Unlock()

	for _, m := range queue {
		r.add(m.take())
	}
	for _, use := range byID {
		r.add(use)
	}
	r.setPendingKeys(len(r.pending))
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if len(r.pending) > 0 {
		if err := r.write(ctx); err != nil {
			return err
		}
		r.unreported = r.report != nil
	}
	if r.unreported {
		if err := r.report(ctx); err != nil {
			return fmt.Errorf("%w: %w", errUnreported, err)
		}
		r.unreported = false
	}
	return nil
}

// write writes what is pending.
func (r *Recorder) write(ctx context.Context) error {
	batch := make([]store.Use, 0, len(r.pending))
	for _, use := range r.pending {
		batch = append(batch, *use)
	}
	// Instances that lock rows in the same order cannot deadlock each other.
	slices.SortFunc(batch, func(a, b store.Use) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	if err := r.sink.RecordUse(ctx, batch); err != nil {
		return err
	}
	clear(r.pending)
	r.pendingDetails = 0
	r.setPendingKeys(0)
	return nil
}

// add adds to what is to be written. A key that was used since a write has failed has one
// entry all the same. While the store is down, days and last uses go on to be counted, and
// networks and permissions as long as there is room.
//
// What does not fit is dropped from the details and not from the counts: how often a key was
// used, and when last, is never lost to room.
func (r *Recorder) add(use *store.Use) {
	if details := len(use.Networks) + len(use.Asked); r.pendingDetails+details > maxDetails {
		use.Networks, use.Asked = nil, nil
	} else {
		r.pendingDetails += details
	}
	before := r.pending[use.ID]
	if before == nil {
		r.pending[use.ID] = use
		return
	}
	if before.First.IsZero() || !use.First.IsZero() && use.First.Before(before.First) {
		before.First = use.First
	}
	if use.At.After(before.At) {
		before.At = use.At
	}
	for _, day := range use.Days {
		addDay(before, day)
	}
	for _, network := range use.Networks {
		addNetwork(before, network)
	}
	for _, asked := range use.Asked {
		addAsked(before, asked)
	}
}

// addDay adds a day to a use, which has each day once. So do addNetwork and addAsked with
// theirs.
func addDay(use *store.Use, day store.DayUse) {
	for i := range use.Days {
		if known := &use.Days[i]; known.Day == day.Day {
			known.Requests, known.Denied = known.Requests+day.Requests, known.Denied+day.Denied
			return
		}
	}
	use.Days = append(use.Days, day)
}

func addNetwork(use *store.Use, network store.NetworkUse) {
	for i := range use.Networks {
		known := &use.Networks[i]
		if known.Network != network.Network {
			continue
		}
		known.Requests += network.Requests
		if network.FirstAt.Before(known.FirstAt) {
			known.FirstAt = network.FirstAt
		}
		if network.LastAt.After(known.LastAt) {
			known.LastAt = network.LastAt
		}
		return
	}
	use.Networks = append(use.Networks, network)
}

func addAsked(use *store.Use, asked store.AskedPermission) {
	for i := range use.Asked {
		if known := &use.Asked[i]; known.Permission == asked.Permission {
			if asked.LastAt.After(known.LastAt) {
				known.LastAt = asked.LastAt
			}
			return
		}
	}
	use.Asked = append(use.Asked, asked)
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
