package verify

import (
	"context"
	"errors"
	"runtime"
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
			if got := NewSlots(phc.Params{Memory: 64, Iterations: 1, Parallelism: 1}, test.memory).slots; got != test.want {
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
		weight := min(s.slots, int64(1+i%3))
		wg.Go(func() {
			err := s.run(t.Context(), "verify", memory, func() error {
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
	if most.Load() > s.slots {
		t.Errorf("%d at once in %d slots", most.Load(), s.slots)
	}
	if s.Runs() != 100 {
		t.Errorf("counted %d runs", s.Runs())
	}
}

func TestAFullQueueIsBusy(t *testing.T) {
	t.Parallel()
	s := NewSlots(phc.Params{Memory: 64, Iterations: 1, Parallelism: 1}, 64<<10)
	if err := s.free.Acquire(t.Context(), s.slots); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	results := make(chan error, maxQueued)
	for range maxQueued {
		go func() { results <- s.run(ctx, "verify", 64, func() error { return nil }) }()
	}
	for s.waiting.Load() < maxQueued {
		runtime.Gosched()
	}
	if err := s.run(t.Context(), "verify", 64, func() error { return nil }); !errors.Is(err, ErrBusy) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one more than the queue holds got %v, and should not have waited", err)
	}
	if got, want := s.Stats(), (SlotStats{Total: 1, Queued: maxQueued, Capacity: maxQueued}); got != want {
		t.Errorf("stats are %+v, want %+v", got, want)
	}
	cancel()
	for range maxQueued {
		if err := <-results; !errors.Is(err, ErrBusy) {
			t.Errorf("a place in the queue that was given up got %v", err)
		}
	}
	s.free.Release(s.slots)
	err := s.run(t.Context(), "verify", 64, func() error {
		if got := s.Stats(); got.InUse != 1 || got.Queued != 0 {
			t.Errorf("while one is in use stats are %+v", got)
		}
		return nil
	})
	if err != nil || s.Stats().InUse != 0 {
		t.Errorf("with the slots free again: %v, %+v", err, s.Stats())
	}
}
