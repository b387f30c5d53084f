package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatBenchmarksPrintIsRead(t *testing.T) {
	t.Parallel()
	const out = `goos: linux
pkg: example.com/a
BenchmarkWarm-2   	  113269	       527.8 ns/op	       0 B/op	       0 allocs/op
BenchmarkWarm-2   	  113269	       500 ns/op	       0 B/op	       0 allocs/op
BenchmarkParse/bad_first-character 	  200322	       298.4 ns/op
BenchmarkLease-16 	     100	   1634124 ns/op	       518.9 leased-ns	         1.006 leased/without
BenchmarkAnnounced
PASS
ok  	example.com/a	0.127s
`
	want := map[string][]float64{
		"Warm ns/op": {527.8, 500}, "Warm B/op": {0, 0}, "Warm allocs/op": {0, 0},
		"Parse/bad_first-character ns/op": {298.4},
		"Lease ns/op":                     {1634124}, "Lease leased-ns": {518.9}, "Lease leased/without": {1.006},
	}
	got := make(map[string][]float64)
	if err := parseBenchmarks(out, got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := parseBenchmarks("BenchmarkWarm-2 1 many ns/op\n", got); err == nil {
		t.Error("what is no number was read")
	}
}
