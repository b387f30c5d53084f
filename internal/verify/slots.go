package verify

import (
	"context"
	"errors"
	"fmt"
	"runtime"
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
