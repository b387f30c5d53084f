package hashing

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/phc"
)

func TestSlotsAreBoundedByMemoryAndProcessors(t *testing.T) {
	t.Parallel()
	processors := int64(runtime.GOMAXPROCS(0))
	tests := []struct {
		name   string
		memory int64
		want   int64
	}{
		{"less memory than one hash takes leaves one slot", 1 << 10, 1},
		{"memory for one", 64 << 10, 1},
		{"memory for all leaves a processor free", 1 << 40, max(1, processors-1)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := NewSlots(phc.Params{Memory: 64, Iterations: 1, Parallelism: 1}, test.memory).queue.slots; got != test.want {
				t.Errorf("%d slots, want %d", got, test.want)
			}
		})
	}
}

// TestSlotsAreNeverExceeded runs more work at once than there are slots, some of
// it dearer than one slot.
func TestSlotsAreNeverExceeded(t *testing.T) {
	t.Parallel()
	s := NewSlots(phc.Params{Memory: 64, Iterations: 1, Parallelism: 1}, 1<<30)
	var running, most atomic.Int64
	var wg sync.WaitGroup
	for i := range 100 {
		memory := uint32(64 * (1 + i%3))
		weight := min(s.queue.slots, int64(1+i%3))
		wg.Go(func() {
			err := s.run(t.Context(), verifying, memory, func() error {
				now := running.Add(weight)
				for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
				}
				runtime.Gosched()
				running.Add(-weight)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() > s.queue.slots {
		t.Errorf("%d at once in %d slots", most.Load(), s.queue.slots)
	}
	if s.Runs() != 100 {
		t.Errorf("counted %d runs", s.Runs())
	}
}

func TestAFullQueueIsBusy(t *testing.T) {
	t.Parallel()
	s := NewSlots(phc.Params{Memory: 64, Iterations: 1, Parallelism: 1}, 64<<10)
	if err := s.queue.acquire(t.Context(), verifying, s.queue.slots); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	most := maxQueued[verifying]
	results := make(chan error, most)
	for range most {
		go func() { results <- s.run(ctx, verifying, 64, func() error { return nil }) }()
	}
	for s.Stats().Queued < int64(most) {
		runtime.Gosched()
	}
	if err := s.run(t.Context(), verifying, 64, func() error { return nil }); !errors.Is(err, ErrBusy) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one more than the queue holds got %v, and should not have waited", err)
	}
	if got, want := s.Stats(), (Stats{Total: 1, InUse: 1, Queued: int64(most), Capacity: int64(most)}); got != want {
		t.Errorf("stats are %+v, want %+v", got, want)
	}
	cancel()
	for range most {
		if err := <-results; !errors.Is(err, ErrBusy) {
			t.Errorf("a place in the queue that was given up got %v", err)
		}
	}
	s.queue.release(verifying, s.queue.slots)
	err := s.run(t.Context(), verifying, 64, func() error {
		if got := s.Stats(); got.InUse != 1 || got.Queued != 0 {
			t.Errorf("while one is in use stats are %+v", got)
		}
		return nil
	})
	if err != nil || s.Stats().InUse != 0 {
		t.Errorf("with the slots free again: %v, %+v", err, s.Stats())
	}
}

// TestVerificationsGoBeforeNewHashes has new hashes wait first, and a verification
// after them.
func TestVerificationsGoBeforeNewHashes(t *testing.T) {
	t.Parallel()
	s := newSlots(phc.Params{Memory: 64, Iterations: 1, Parallelism: 1}, 1)
	if err := s.queue.acquire(t.Context(), minting, 1); err != nil {
		t.Fatal(err)
	}
	var order []class
	var wg sync.WaitGroup
	enter := func(c class) {
		wg.Go(func() {
			err := s.run(t.Context(), c, 64, func() error {
				order = append(order, c) // one slot, so one at a time
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	waiting := func(c class) int {
		s.queue.mu.Lock()
		defer s.queue.mu.Unlock()
		return s.queue.waiting[c].Len()
	}
	for i := range 10 {
		enter(minting)
		for waiting(minting) != i+1 {
			runtime.Gosched()
		}
	}
	for i := range 3 {
		enter(verifying)
		for waiting(verifying) != i+1 {
			runtime.Gosched()
		}
	}
	s.queue.release(minting, 1)
	wg.Wait()
	if got := order[:3]; !slices.Equal(got, []class{verifying, verifying, verifying}) {
		t.Errorf("verifications wait for new hashes: %v", order)
	}
}

func TestNewHashesLeaveASlotToVerifications(t *testing.T) {
	t.Parallel()
	s := newSlots(phc.Params{Memory: 64, Iterations: 1, Parallelism: 1}, 3)
	over, end := context.WithCancel(t.Context())
	end()
	for range 2 {
		if err := s.queue.acquire(t.Context(), minting, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.queue.acquire(over, minting, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("a new hash for the last slot got %v", err)
	}
	if err := s.run(over, verifying, 64, func() error { return nil }); err != nil {
		t.Errorf("a verification beside them got %v", err)
	}
	// A dear one waits for all slots. Nothing overtakes it, and nothing waits for it once
	// it has given up.
	if err := s.queue.acquire(over, verifying, 3); !errors.Is(err, context.Canceled) {
		t.Errorf("all slots at once got %v", err)
	}
	if got, want := s.Stats(), (Stats{Total: 3, InUse: 2, Capacity: int64(maxQueued[verifying])}); got != want {
		t.Errorf("stats are %+v, want %+v", got, want)
	}
}

func TestAFullQueueOfNewHashesIsBusyForThemAlone(t *testing.T) {
	t.Parallel()
	s := newSlots(phc.Params{Memory: 64, Iterations: 1, Parallelism: 1}, 1)
	if err := s.queue.acquire(t.Context(), minting, 1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var refused atomic.Int64
	for range maxQueued[minting] + 1 {
		wg.Go(func() {
			if _, err := s.Hash(ctx, "key"); errors.Is(err, ErrBusy) && ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
				refused.Add(1)
			}
		})
	}
	for refused.Load() == 0 { // one too many
		runtime.Gosched()
	}
	verified := make(chan error)
	go func() { verified <- s.run(t.Context(), verifying, 64, func() error { return nil }) }()
	for s.Stats().Queued == 0 {
		runtime.Gosched()
	}
	s.queue.release(minting, 1)
	if err := <-verified; err != nil {
		t.Errorf("a verification behind a full queue of new hashes got %v", err)
	}
}
