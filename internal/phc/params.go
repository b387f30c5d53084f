package phc

import (
	"fmt"
	"math"
	"strings"
)

// Bounds of the parameters, for new hashes and for stored ones. RFC 9106 section 3.1
// demands at least 8 KiB of memory for each lane.
const (
	// MaxMemory is the most memory one hash may take, in KiB: 256 MiB.
	MaxMemory = 256 << 10
	// MaxIterations is the greatest number of passes over the memory.
	MaxIterations = 10
	// MaxParallelism is the greatest number of lanes.
	MaxParallelism = 8

	minMemoryPerLane = 8
)

// Params says how much work one hash costs.
type Params struct {
	// Memory is in KiB, from 8 for each lane to [MaxMemory].
	Memory uint32
	// Iterations is the number of passes, 1 to [MaxIterations].
	Iterations uint32
	// Parallelism is the number of lanes, 1 to [MaxParallelism].
	Parallelism uint8
}

// Default returns OWASP's recommendation, which is also the default of the Rust
// crate argon2: 19 MiB, 2 iterations, 1 lane.
func Default() Params { return Params{Memory: 19 << 10, Iterations: 2, Parallelism: 1} }

// Validate checks the bounds. Its error wraps [ErrOutOfBounds], and names the first
// parameter that is out of its bounds.
func (p Params) Validate() error {
	switch {
	case p.Parallelism < 1 || p.Parallelism > MaxParallelism:
		return fmt.Errorf("parallelism %w: must be 1 to %d", ErrOutOfBounds, MaxParallelism)
	case p.Iterations < 1 || p.Iterations > MaxIterations:
		return fmt.Errorf("iterations %w: must be 1 to %d", ErrOutOfBounds, MaxIterations)
	case p.Memory < minMemoryPerLane*uint32(p.Parallelism) || p.Memory > MaxMemory:
		return fmt.Errorf("memory %w: must be %d KiB for each lane to %d KiB", ErrOutOfBounds, minMemoryPerLane, MaxMemory)
	}
	return nil
}

// WeakerThan reports whether p asks for less work than q: no parameter of p is higher, and
// at least one is lower. If one has more memory and the other more iterations, neither is
// weaker.
func (p Params) WeakerThan(q Params) bool {
	return p != q && p.Memory <= q.Memory && p.Iterations <= q.Iterations && p.Parallelism <= q.Parallelism
}

func (p Params) encode() string {
	return fmt.Sprintf("m=%d,t=%d,p=%d", p.Memory, p.Iterations, p.Parallelism)
}

// parseParams reads the spelling that encode writes, and no other.
func parseParams(s string) (Params, error) {
	fields := strings.Split(s, ",")
	names := [...]string{"m=", "t=", "p="}
	if len(fields) != len(names) {
		return Params{}, ErrMalformed
	}
	var numbers [len(names)]uint32
	for i, name := range names {
		digits, ok := strings.CutPrefix(fields[i], name)
		if !ok {
			return Params{}, ErrMalformed
		}
		n, err := parseNumber(digits)
		if err != nil {
			return Params{}, err
		}
		numbers[i] = n
	}
	if numbers[2] > math.MaxUint8 {
		return Params{}, fmt.Errorf("parallelism %w: must be 1 to %d", ErrOutOfBounds, MaxParallelism)
	}
	p := Params{Memory: numbers[0], Iterations: numbers[1], Parallelism: uint8(numbers[2])}
	return p, p.Validate()
}
