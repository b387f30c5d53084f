package upstream_test

import (
	"testing"
)

// BenchmarkVerify is what a service pays for a request.
func BenchmarkVerify(b *testing.B) {
	v := makeVectors()
	verifier, r := verifierOf(v), requestOf(v.Cases[0])
	b.ReportAllocs()
	for b.Loop() {
		if _, err := verifier.Verify(r); err != nil {
			b.Fatal(err)
		}
	}
}
