package verify

import "time"

// Path is how it was found out whether a key is good.
type Path string

// The paths, the cheapest first.
const (
	// PathMemory is a key that is remembered, under the lease.
	PathMemory Path = "memory"
	// PathRow is one row read: the digest is known to fit the row's hash, or not to.
	PathRow Path = "row"
	// PathProof is one row read, and a proof from the shared cache.
	PathProof Path = "proof"
	// PathArgon2id is one row read and the computation, its wait for a slot included.
	PathArgon2id Path = "argon2id"
)

// Paths are all of them.
func Paths() []Path { return []Path{PathMemory, PathRow, PathProof, PathArgon2id} }

// Meter is told how long it took to find out whether a key is good. It is called
// by many goroutines at once, and must return at once.
type Meter interface {
	Verified(path Path, took time.Duration)
	// Adopted is told of a request with a string that this system did not mint, if
	// keys of other services are adopted.
	Adopted(outcome Outcome)
}

// unmetered is nobody to tell.
type unmetered struct{}

func (unmetered) Verified(Path, time.Duration) {}
func (unmetered) Adopted(Outcome)              {}

// sampling is of how many checks from memory one is timed. A reading of the clock
// takes a tenth of such a check.
const sampling = 256

// sample reads the clock if the next check from memory is to be timed.
func (v *Verifier) sample() (began time.Time) {
	if v.remembered.Load()%sampling == sampling-1 {
		began = v.config.Now()
	}
	return began
}

// recalled counts a key that was accepted from memory at now. The time is that of
// a reading that the check makes anyway, just before its end.
func (v *Verifier) recalled(began, now time.Time) {
	v.remembered.Add(1)
	if !began.IsZero() {
		v.config.Meter.Verified(PathMemory, now.Sub(began))
	}
}
