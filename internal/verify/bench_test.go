package verify_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/usage"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// nowhere takes last uses and keeps none.
type nowhere struct{}

func (nowhere) RecordUse(context.Context, []store.Use) error { return nil }

// withRecorder has last uses recorded for real.
func withRecorder(b *testing.B) func(*verify.Config) {
	b.Helper()
	recorder := usage.Start(nowhere{}, time.Second, slog.New(slog.DiscardHandler), nil)
	b.Cleanup(func() { _ = recorder.Close(b.Context()) })
	return func(c *verify.Config) { c.Uses = recorder }
}

// BenchmarkWarm is the whole check of a key that was verified a moment ago.
func BenchmarkWarm(b *testing.B) {
	f := newFixture(b, withRecorder(b))
	_, key := f.mint(b, "bench", "bots:read")
	f.clock.freeze()
	if _, err := f.verifier.Verify(b.Context(), key); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.verifier.Verify(b.Context(), key); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWarmParallel is the same for one key on all processors.
func BenchmarkWarmParallel(b *testing.B) {
	f := newFixture(b, withRecorder(b))
	_, key := f.mint(b, "bench", "bots:read")
	f.clock.freeze()
	if _, err := f.verifier.Verify(b.Context(), key); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := f.verifier.Verify(b.Context(), key); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkUnminted is what a string costs that nobody minted.
func BenchmarkUnminted(b *testing.B) {
	f := newFixture(b)
	key := "lm_sys_" + "0000000000000000000000000000000000000000000000000000000000000000000000000000"
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.verifier.Verify(b.Context(), key); err == nil {
			b.Fatal("accepted")
		}
	}
}
