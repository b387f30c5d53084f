package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestQuantileIsTheNearestRank(t *testing.T) {
	t.Parallel()
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	for _, c := range []struct {
		sorted []int
		q      float64
		want   int
	}{
		{[]int{7}, 0, 7},
		{[]int{7}, 0.5, 7},
		{[]int{7}, 1, 7},
		{[]int{1, 2, 3}, 0.5, 2},
		{[]int{1, 2, 3, 4}, 0.5, 2},
		{[]int{1, 2, 3, 4}, 0.51, 3},
		{hundred, 0.99, 99},
		{hundred, 0.999, 100},
		{hundred, 0.01, 1},
	} {
		if got := quantile(c.sorted, c.q); got != c.want {
			t.Errorf("quantile(%v, %v) = %d, want %d", c.sorted, c.q, got, c.want)
		}
	}
}

func TestRowsOfValuesInAnyOrder(t *testing.T) {
	t.Parallel()
	values := []float64{3, 1, 9, 2, 4}
	want := row{Name: "a", What: "b", Unit: ratio, Median: 3, Min: 1, Max: 9, N: 5}
	if diff := cmp.Diff(want, rowOf("a", "b", ratio, values)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]float64{3, 1, 9, 2, 4}, values); diff != "" {
		t.Errorf("the values were changed (-want +got):\n%s", diff)
	}
}

func TestDistributionIsInMilliseconds(t *testing.T) {
	t.Parallel()
	var samples []time.Duration
	for i := range 200 {
		samples = append(samples, time.Duration(200-i)*500*time.Microsecond)
	}
	want := []row{
		{Name: "a", What: "b", Unit: milliseconds, Median: 50, Min: 0.5, Max: 100, N: 200},
		{Name: "a", What: "b, p99", Unit: milliseconds, Median: 99, Min: 99, Max: 99, N: 200},
	}
	if diff := cmp.Diff(want, distribution("a", "b", samples)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
