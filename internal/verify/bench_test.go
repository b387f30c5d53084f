package verify_test

import (
	"testing"
)

// BenchmarkWarm is the whole check of a key that was verified a moment ago.
func BenchmarkWarm(b *testing.B) {
	f := newFixture(b)
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
	f := newFixture(b)
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
