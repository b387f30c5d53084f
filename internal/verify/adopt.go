package verify

import (
	"context"
	"errors"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Outcome is how it was found out whose a key of another service is, or why not.
type Outcome string

// The outcomes, of one request each.
const (
	// OutcomeMemory, OutcomeIndex and OutcomeSearch say where the key was found. It
	// may still be refused, as one that has expired.
	OutcomeMemory Outcome = "memory"
	OutcomeIndex  Outcome = "index"
	OutcomeSearch Outcome = "search"
	// OutcomeNone is a string that is nobody's key.
	OutcomeNone Outcome = "none"
	// OutcomeWaiting is one that is still searched for, OutcomeBusy one that was not
	// looked for, or not to the end, because a bound was met.
	OutcomeWaiting Outcome = "waiting"
	OutcomeBusy    Outcome = "busy"
	// OutcomeFailed is one that could not be looked for.
	OutcomeFailed Outcome = "failed"
)

// Outcomes are all of them.
func Outcomes() []Outcome {
	return []Outcome{
		OutcomeMemory, OutcomeIndex, OutcomeSearch, OutcomeNone, OutcomeWaiting, OutcomeBusy, OutcomeFailed,
	}
}

// ErrAdopting says that it cannot be said now whose a key is that this system did
// not mint: it is searched for, or a bound of the search was met.
var ErrAdopting = errors.New("a key that was not minted here cannot be found now")

// adopt is for what this system did not mint: it finds out whose it may be, and goes
// on as for a key that says so itself. Whatever it finds is a hint, so that all rules
// for keys hold unchanged.
func (v *Verifier) adopt(ctx context.Context, key string, flight *coherence.Flight) (*Identity, error) {
	if v.adopter == nil || !token.Foreign(key) {
		return nil, ReasonUnminted
	}
	digest := token.Digest(key)
	for again := false; ; again = true {
		id, outcome, err := v.adopter.locate(ctx, key, digest)
		if err != nil {
			if outcome != "" {
				v.config.Meter.Adopted(outcome)
			}
			return nil, err
		}
		identity, err := v.admit(ctx, id, key, digest, flight)
		if reason, ok := errors.AsType[Reason](err); ok && reason != ReasonExpired &&
			!v.adopter.dismiss(key, digest, id, reason) && !again {
			continue
		}
		v.config.Meter.Adopted(outcome)
		return identity, err
	}
}

// Whose returns the id of a key: its own, or, if another service minted it, the one
// that it was found under lately.
func (v *Verifier) Whose(key string) (store.ID, bool) {
	if id, err := v.config.Minter.Parse(key); err == nil {
		return id, true
	}
	if v.adopter == nil || !token.Foreign(key) {
		return store.ID{}, false
	}
	return v.adopter.whose(token.Digest(key))
}

// AdoptionStats are figures of the adoption of keys at a moment.
type AdoptionStats struct {
	// Candidates is how many keys of other services have not been found yet. It is
	// counted before each search, and twice a minute between them.
	Candidates int
	// Waiting is how many strings are looked for or wait for it.
	Waiting int
	// Argon2Runs counts the computations of searches.
	Argon2Runs uint64
}

// Adoption returns the figures, or false if no keys are adopted.
func (v *Verifier) Adoption() (stats AdoptionStats, ok bool) {
	if v.adopter == nil {
		return stats, false
	}
	return v.adopter.stats(), true
}
