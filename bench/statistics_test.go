package main

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestTrimmedMeanLeavesOutBothEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{7}, 7},
		{[]float64{3, 1}, 2},
		{[]float64{9, 1, 2}, 4}, // a tenth of three is none
		{[]float64{1000, 5, 5, 5, 6, 6, 6, 5, 6, -1000}, 5.5},
	} {
		if got := trimmedMean(c.values); got != c.want {
			t.Errorf("the trimmed mean of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

// TestOnePercentCanBeSeen compares two sites whose costs differ by 1 %, as 300 slices
// show them: with noise of 3 %, one slice in twenty that takes twice as long, and a
// machine that becomes slower by a fifth during the run.
func TestOnePercentCanBeSeen(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	slice := func(turn int, cost float64) float64 {
		cost *= 1 + 0.03*random.NormFloat64() + 0.2*float64(turn)/300
		if random.IntN(20) == 0 {
			cost *= 2
		}
		return cost
	}
	var bare, with []float64
	for turn := range 300 {
		bare, with = append(bare, slice(turn, 50)), append(with, slice(turn, 50.5))
	}
	got := ratioOf("with", "÷ bare", with, bare)
	if math.Abs(got.Value-1.01) > 0.005 || got.Low < 1.002 || got.High > 1.02 {
		t.Errorf("%.4f (%.4f to %.4f), want about 1.01, and not 1.00", got.Value, got.Low, got.High)
	}
	if got.N != 300 || got.Unit != ratio {
		t.Errorf("it is of %d turns in %q", got.N, got.Unit)
	}
}
