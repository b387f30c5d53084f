package verify

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

// ErrBusy says that every Argon2id slot is taken and the queue is full, or did
// not move for too long.
var ErrBusy = errors.New("no free slot for argon2id")

// Slots bounds how much Argon2id runs at once, by memory and by processors.
// More at once than there are processors is not only no faster: 64 at once
// were measured to lose two thirds of the throughput and to take 1.6 GiB.
//
// A slot is held by the work until it is done, not by the request that asked
// for it: a client that goes away frees nothing early.
type Slots struct {
	params phc.Params
	unit   int64 // KiB that one slot stands for
	queue  queue
	runs   atomic.Uint64
}

// NewSlots makes slots for hashes of these parameters, in hashMemory bytes
// altogether: max(1, min(hashMemory / memory, GOMAXPROCS − 1)) of them. One
// processor is left to everything else.
func NewSlots(params phc.Params, hashMemory int64) *Slots {
	return newSlots(params, max(1, min(hashMemory/1024/int64(params.Memory), int64(runtime.GOMAXPROCS(0)-1))))
}

func newSlots(params phc.Params, n int64) *Slots {
	return &Slots{params: params, unit: int64(params.Memory), queue: queue{slots: n}}
}

// Runs counts the Argon2id computations that were made.
func (s *Slots) Runs() uint64 { return s.runs.Load() }

// SlotStats are figures of [Slots] at a moment.
type SlotStats struct {
	// Total is how many slots there are, InUse how many of them work is in.
	Total, InUse int64
	// Queued is how many verifications wait for slots, Capacity how many may.
	Queued, Capacity int64
}

// Stats returns the figures.
func (s *Slots) Stats() SlotStats {
	queued, inUse := s.queue.length()
	return SlotStats{Total: s.queue.slots, InUse: inUse, Queued: queued, Capacity: int64(maxQueued[verifying])}
}

// Params are the parameters that new hashes get.
func (s *Slots) Params() phc.Params { return s.params }

// Hash computes the PHC string of a key with the configured parameters. It waits for
// every verification that waits. [ErrBusy] when no slot can be had.
func (s *Slots) Hash(ctx context.Context, key string) (store.Hash, error) {
	var hash string
	err := s.run(ctx, minting, s.params.Memory, func() (err error) {
		hash, err = phc.Hash(key, s.params)
		return err
	})
	return store.Hash(hash), err
}

// Verify reports whether the key belongs to the hash. [ErrBusy] when no slot
// can be had.
func (s *Slots) Verify(ctx context.Context, hashed *phc.Hashed, key string) (bool, error) {
	var same bool
	err := s.run(ctx, verifying, hashed.Params().Memory, func() error {
		same = hashed.Verify(key)
		return nil
	})
	return same, err
}

// run does the work in as many slots as its memory asks for. A stored hash may
// be dearer than the configured one; it then takes several slots, at most all.
//
// It is one span, in which the event "slot" ends the wait.
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

// class is what a computation is for. The lower one goes first.
type class int

const (
	verifying class = iota // a request waits to be let in
	minting                // a new hash, which can be asked for again
)

// maxQueued is how many of each class may wait. A cold start of 1,000 keys must find
// a place or a Retry-After, never a pile of memory. New hashes that wait take one slot
// for about as long as [maxWaiting].
var maxQueued = [...]int{verifying: 128, minting: 64}

// queue hands out slots: to verifications first, and to new hashes while no
// verification waits. New hashes leave one slot free if there are several, so that a
// verification need not even wait for one of them to end.
type queue struct {
	mu      sync.Mutex
	slots   int64
	taken   [2]int64     // slots, by class
	waiting [2]list.List // of *place, by class
}

// place is one in the queue.
type place struct {
	weight  int64
	granted chan struct{} // closed when the slots are taken for it
}

// acquire takes slots, and returns [ErrBusy] if the queue is full, or the error of ctx.
func (q *queue) acquire(ctx context.Context, c class, weight int64) error {
	q.mu.Lock()
	mine := &place{weight, make(chan struct{})}
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
	case <-mine.granted: // in the same moment
		return nil
	default:
	}
	q.waiting[c].Remove(element)
	q.grant() // it may have been in the way of others
	return ctx.Err()
}

func (q *queue) release(c class, weight int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken[c] -= weight
	q.grant()
}

// grant gives free slots to those that wait. The caller holds the lock.
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
		next := first.Value.(*place)
		if q.taken[verifying]+q.taken[minting]+next.weight > q.slots || q.taken[c]+next.weight > bound {
			return
		}
		q.taken[c] += next.weight
		q.waiting[c].Remove(first)
		close(next.granted)
	}
}

// length is how many verifications wait, and inUse how many slots are taken.
func (q *queue) length() (waiting, inUse int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return int64(q.waiting[verifying].Len()), q.taken[verifying] + q.taken[minting]
}
