// Package hashing runs Argon2id within bounds. A computation needs megabytes and a processor
// for tens of milliseconds, and whoever sends keys can ask for one. So computations wait in
// a bounded queue for slots, which are bounded by memory and by processors. Verifications go
// before new hashes.
package hashing

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// maxWaiting is how long a computation waits for a slot.
const maxWaiting = 2 * time.Second

// ErrBusy says that no Argon2id slot could be had: the queue is full, or the wait was too
// long.
var ErrBusy = errors.New("no free slot for argon2id")

// Slots bounds how much Argon2id runs at once, by memory and by processors. More
// computations at once than processors are not faster. In a measurement, 64 at once lost
// two thirds of the throughput and took 1.6 GiB.
//
// The work holds a slot until it is done. The request that asked for the work does not hold
// it, so a client that goes away frees no slot early.
type Slots struct {
	params phc.Params
	unit   int64 // the memory of one slot, in KiB
	queue  queue
	runs   atomic.Uint64
}

// NewSlots makes slots for hashes of these parameters, with hashMemory bytes altogether. It
// makes max(1, min(hashMemory / memory, GOMAXPROCS − 1)) slots, so that one processor is
// left for everything else.
func NewSlots(params phc.Params, hashMemory int64) *Slots {
	return newSlots(params, max(1, min(hashMemory/1024/int64(params.Memory), int64(runtime.GOMAXPROCS(0)-1))))
}

func newSlots(params phc.Params, n int64) *Slots {
	return &Slots{params: params, unit: int64(params.Memory), queue: queue{slots: n}}
}

// Runs returns how many Argon2id computations have run.
func (s *Slots) Runs() uint64 { return s.runs.Load() }

// Stats are figures of [Slots] at a moment.
type Stats struct {
	// Total is how many slots there are. InUse is how many of them are taken.
	Total, InUse int64
	// Queued is how many verifications wait for slots. Capacity is how many may wait.
	Queued, Capacity int64
}

// Stats returns the figures.
func (s *Slots) Stats() Stats {
	queued, inUse := s.queue.length()
	return Stats{Total: s.queue.slots, InUse: inUse, Queued: queued, Capacity: int64(maxQueued[verifying])}
}

// Params returns the parameters of new hashes.
func (s *Slots) Params() phc.Params { return s.params }

// Hash computes the PHC string of a key with the configured parameters. Verifications that
// wait go first. The error is [ErrBusy] if no slot can be had.
func (s *Slots) Hash(ctx context.Context, key string) (store.Hash, error) {
	var hash string
	err := s.run(ctx, minting, s.params.Memory, func() (err error) {
		hash, err = phc.Hash(key, s.params)
		return err
	})
	return store.Hash(hash), err
}

// Verify reports whether the key belongs to the hash. The error is [ErrBusy] if no slot can
// be had.
func (s *Slots) Verify(ctx context.Context, hashed *phc.Hashed, key string) (bool, error) {
	var matches bool
	err := s.run(ctx, verifying, hashed.Params().Memory, func() error {
		matches = hashed.Verify(key)
		return nil
	})
	return matches, err
}

// run does the work in as many slots as its memory needs. A stored hash may need more memory
// than a new one. It then takes several slots, but never more than there are.
//
// The wait and the work are one span. Its event "slot" is the end of the wait.
func (s *Slots) run(ctx context.Context, c class, memory uint32, work func() error) (err error) {
	operation := [...]string{verifying: "verify", minting: "hash"}[c]
	ctx, span := observe.Start(ctx, "argon2id "+operation, attribute.Int64("argon2id.memory_kib", int64(memory)))
	defer func() { observe.End(span, err) }()
	weight := min(s.queue.slots, (int64(memory)+s.unit-1)/s.unit)
	waiting, cancel := context.WithTimeout(ctx, maxWaiting)
	err = s.queue.acquire(waiting, c, weight)
	cancel()
	switch {
	case errors.Is(err, ErrBusy):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	span.AddEvent("slot")
	defer s.queue.release(c, weight)
	s.runs.Add(1)
	return work()
}

// class is the purpose of a computation. The lower class goes first.
type class int

const (
	verifying class = iota // a request waits to be let in
	minting                // a new hash, which can be asked for again
)

// maxQueued is how many computations of each class may wait. At a cold start with 1,000
// keys, each request must find a place or get a Retry-After, and memory must stay bounded.
// A full queue of new hashes keeps one slot busy for about as long as [maxWaiting].
var maxQueued = [...]int{verifying: 128, minting: 64}

// queue hands out slots: to verifications first, and to new hashes while no verification
// waits. If there are several slots, new hashes leave one free. So a verification need not
// even wait for a new hash to end.
type queue struct {
	mu      sync.Mutex
	slots   int64
	taken   [2]int64     // slots, by class
	waiting [2]list.List // of *waiter, by class
}

// waiter is a computation that waits for slots.
type waiter struct {
	weight  int64         // how many slots it needs
	granted chan struct{} // closed when the slots are taken for it
}

// acquire waits for slots and takes them. The error is [ErrBusy] if the queue is full, or
// that of ctx.
func (q *queue) acquire(ctx context.Context, c class, weight int64) error {
	q.mu.Lock()
	mine := &waiter{weight, make(chan struct{})}
	element := q.waiting[c].PushBack(mine)
	q.grant()
	if q.waiting[c].Len() > maxQueued[c] {
		q.waiting[c].Remove(element)
		q.mu.Unlock()
		return ErrBusy
	}
	q.mu.Unlock()
	select {
	case <-mine.granted:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-mine.granted: // at the same moment
		return nil
	default:
	}
	q.waiting[c].Remove(element)
	q.grant() // others may have waited behind it
	return ctx.Err()
}

// release gives slots back.
func (q *queue) release(c class, weight int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken[c] -= weight
	q.grant()
}

// grant gives free slots to waiters, in order. The caller holds the lock.
func (q *queue) grant() {
	for {
		c, bound := verifying, q.slots
		if q.waiting[verifying].Len() == 0 {
			c, bound = minting, max(1, q.slots-1)
		}
		first := q.waiting[c].Front()
		if first == nil {
			return
		}
		next := first.Value.(*waiter)
		if q.taken[verifying]+q.taken[minting]+next.weight > q.slots || q.taken[c]+next.weight > bound {
			return
		}
		q.taken[c] += next.weight
		q.waiting[c].Remove(first)
		close(next.granted)
	}
}

// length returns how many verifications wait, and how many slots are taken.
func (q *queue) length() (waiting, inUse int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return int64(q.waiting[verifying].Len()), q.taken[verifying] + q.taken[minting]
}
