package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// gave is a round of n requests in a second, each of so much CPU time.
func gave(n int, each time.Duration) result {
	r := result{took: time.Second, cpu: time.Duration(n) * each}
	for range n {
		r.latencies = append(r.latencies, time.Millisecond)
	}
	return r
}

func TestRatiosAreToTheBareSiteOfTheSameRound(t *testing.T) {
	t.Parallel()
	bare := &site{results: []result{gave(100, 10*time.Microsecond), gave(200, 20*time.Microsecond), gave(50, 40*time.Microsecond)}}
	bare.bare = bare
	with := &site{
		name: "with", bare: bare,
		results: []result{gave(90, 11*time.Microsecond), gave(100, 30*time.Microsecond), gave(50, 40*time.Microsecond)},
	}
	want := []row{
		{Name: "with", What: "requests", Unit: "/s", Median: 90, Min: 50, Max: 100, N: 3},
		{Name: "with", What: "CPU per request", Unit: "µs", Median: 30, Min: 11, Max: 40, N: 3},
		{Name: "with", What: "p50", Unit: "ms", Median: 1, Min: 1, Max: 1, N: 3},
		{Name: "with", What: "p99", Unit: "ms", Median: 1, Min: 1, Max: 1, N: 3},
		{Name: "with", What: "requests ÷ bare", Unit: ratio, Median: 0.9, Min: 0.5, Max: 1, N: 3},
		{Name: "with", What: "CPU per request ÷ bare", Unit: ratio, Median: 1.1, Min: 1, Max: 1.5, N: 3},
	}
	if diff := cmp.Diff(want, with.rows()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := len(bare.rows()); got != 4 {
		t.Errorf("the bare site has %d figures, want 4: it is compared with nobody", got)
	}
}
