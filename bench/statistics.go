package main

import (
	"math/rand/v2"
	"slices"
)

const (
	// trimmed is the part of the values that is left out at each end: what else the
	// machine did meets few slices, and those much.
	trimmed = 0.1
	// resamples is how often the bootstrap draws. Of the figures of all draws the
	// middle 95 % are the spread.
	resamples = 2000
)

// trimmedMean is the mean of what is not left out. Of values of which there is one at
// least, it leaves one.
func trimmedMean(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	out := min(int(trimmed*float64(len(sorted))), (len(sorted)-1)/2)
	sum := 0.0
	for _, v := range sorted[out : len(sorted)-out] {
		sum += v
	}
	return sum / float64(len(sorted)-2*out)
}

// meanOf makes a figure of values.
func meanOf(name, what, unit string, values []float64) row {
	return bootstrapped(name, what, unit, len(values), func(drawn []int) float64 { return trimmedMean(at(values, drawn)) })
}

// ratioOf makes a figure of values and of those that they are compared with, which were
// measured in the same turns. A draw takes the same turns of both, so that what slowed a
// whole turn down does not widen the spread.
func ratioOf(name, what string, values, others []float64) row {
	return bootstrapped(name, what, ratio, len(values), func(drawn []int) float64 {
		return trimmedMean(at(values, drawn)) / trimmedMean(at(others, drawn))
	})
}

// bootstrapped makes a figure of n turns, by a function of some of them. The draws are
// the same in each call.
func bootstrapped(name, what, unit string, n int, of func(turns []int) float64) row {
	random := rand.New(rand.NewPCG(1, 2))
	turns := make([]int, n)
	for i := range turns {
		turns[i] = i
	}
	figure := row{Name: name, What: what, Unit: unit, Value: of(turns), N: n}
	drawn := make([]float64, resamples)
	for i := range drawn {
		for j := range turns {
			turns[j] = random.IntN(n)
		}
		drawn[i] = of(turns)
	}
	slices.Sort(drawn)
	figure.Low, figure.High = quantile(drawn, 0.025), quantile(drawn, 0.975)
	return figure
}

func at(values []float64, indexes []int) []float64 {
	some := make([]float64, len(indexes))
	for i, n := range indexes {
		some[i] = values[n]
	}
	return some
}
