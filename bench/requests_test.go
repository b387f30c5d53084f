package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// gave is a slice of n requests in a second, each of so much CPU time.
func gave(n int, each time.Duration) result {
	r := result{took: time.Second, cpu: time.Duration(n) * each}
	for range n {
		r.latencies = append(r.latencies, time.Millisecond)
	}
	return r
}

func TestSitesAreComparedWithThoseThatTheyName(t *testing.T) {
	t.Parallel()
	bare := &site{name: "bare", results: []result{gave(100, 10*time.Microsecond), gave(100, 10*time.Microsecond)}}
	with := &site{name: "with", against: []*site{bare}, results: []result{gave(90, 11*time.Microsecond), gave(90, 11*time.Microsecond)}}
	figure := func(name, what, unit string, value float64) row {
		return row{Name: name, What: what, Unit: unit, Value: value, Low: value, High: value, N: 2}
	}
	want := []row{
		figure("bare", "requests", "/s", 100),
		figure("bare", "CPU per request", "µs", 10),
		figure("with", "requests", "/s", 90),
		figure("with", "CPU per request", "µs", 11),
		figure("with", "requests ÷ bare", ratio, 0.9),
		figure("with", "CPU per request ÷ bare", ratio, 1.1),
	}
	if diff := cmp.Diff(want, rowsOf([]*site{bare, with})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
