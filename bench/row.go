package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// row is a figure: the median of so many rounds or samples, and how far they were
// apart.
type row struct {
	Part   string  `json:"part"`
	Name   string  `json:"name"`
	What   string  `json:"what"`
	Unit   string  `json:"unit"`
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

// The units that have a form of their own, or that both parts have.
const (
	milliseconds = "ms"
	ratio        = "×"
	count        = ""
)

// rowOf is the figure that values give, of which there is one at least.
func rowOf(name, what, unit string, values []float64) row {
	sorted := slices.Sorted(slices.Values(values))
	return row{
		Name: name, What: what, Unit: unit,
		Median: quantile(sorted, 0.5), Min: sorted[0], Max: sorted[len(sorted)-1], N: len(sorted),
	}
}

// single is a figure that is not one of several: a sum, or a quantile of n samples.
func single(name, what, unit string, value float64, n int) row {
	return row{Name: name, What: what, Unit: unit, Median: value, Min: value, Max: value, N: n}
}

// distribution is the figure of all samples, and their p99.
func distribution(name, what string, samples []time.Duration) []row {
	values := make([]float64, len(samples))
	for i, d := range samples {
		values[i] = inMilliseconds(d)
	}
	slices.Sort(values)
	return []row{
		rowOf(name, what, milliseconds, values),
		single(name, what+", p99", milliseconds, quantile(values, 0.99), len(values)),
	}
}

// quantile is the least value that so great a part of all is not above (the nearest
// rank). The values are sorted, and there is one at least.
func quantile[T any](sorted []T, q float64) T {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func inMilliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// spread is the figure that values give, as text.
func spread(values []float64, format string) string {
	r := rowOf("", "", "", values)
	return fmt.Sprintf(format+" ("+format+" to "+format+")", r.Median, r.Min, r.Max)
}
