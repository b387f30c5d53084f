// Package observe traces and times the work that a request may have to wait for: calls on
// the store and on the shared cache, and Argon2id. Each piece of work is a span if the
// request is traced. Its time goes to a [Meter].
//
// The tracer of the request's own span (Caddy's `tracing`) makes the spans, so there is
// nothing to configure. Spans and meters learn which operation it was, how it ended, and
// how long it took. Nothing in them names a key.
package observe

import (
	"context"
	"errors"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Result is how a call ended.
type Result string

// The results.
const (
	// OK is an answer, even if the answer is that there is no such key.
	OK Result = "ok"
	// Canceled is a call whose caller went away. It says nothing about the store.
	Canceled Result = "canceled"
	// Timeout is a call that got no answer in time.
	Timeout Result = "timeout"
	// Failed is any other error.
	Failed Result = "error"
)

// answers are the errors by which a store answers a question about a key.
var answers = []error{store.ErrNotFound, store.ErrConflict, store.ErrActorGone}

// ResultOf says how a call ended, given the error that it returned.
func ResultOf(err error) Result {
	if err == nil {
		return OK
	}
	for _, answer := range answers {
		if errors.Is(err, answer) {
			return OK
		}
	}
	if _, invalid := errors.AsType[*store.InvalidError](err); invalid {
		return OK
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	}
	return Failed
}

// Path is how the verifier found out whether a key is good.
type Path string

// The paths, the cheapest first.
const (
	// PathMemory is a key that was in memory, under the lease.
	PathMemory Path = "memory"
	// PathRow is one read of the row. This process knew already whether the key's digest
	// belongs to the row's hash.
	PathRow Path = "row"
	// PathProof is one read of the row, and a proof from the shared cache.
	PathProof Path = "proof"
	// PathArgon2id is one read of the row, and the computation with its wait for a slot.
	PathArgon2id Path = "argon2id"
)

// Paths returns every [Path].
func Paths() []Path { return []Path{PathMemory, PathRow, PathProof, PathArgon2id} }

// Outcome is where the row of a string was found that this system did not mint, or why it was
// not: nobody has the string, it is searched for still, a bound was met, or the store did not
// answer. There is one for each request.
type Outcome string

// The outcomes.
const (
	OutcomeMemory  Outcome = "memory"
	OutcomeIndex   Outcome = "index"
	OutcomeSearch  Outcome = "search"
	OutcomeNone    Outcome = "none"
	OutcomeWaiting Outcome = "waiting"
	OutcomeBusy    Outcome = "busy"
	OutcomeFailed  Outcome = "failed"
)

// Outcomes returns every [Outcome].
func Outcomes() []Outcome {
	return []Outcome{OutcomeMemory, OutcomeIndex, OutcomeSearch, OutcomeNone, OutcomeWaiting, OutcomeBusy, OutcomeFailed}
}

// Meter counts and times what happened. The operations are constants of the drivers. Many
// goroutines call a meter at the same time, and its methods must not block.
type Meter interface {
	// StoreCalled and RedisCalled are called at the end of each call.
	StoreCalled(operation string, result Result, took time.Duration)
	RedisCalled(operation string, result Result, took time.Duration)
	// Verified is called when it is known whether a key is good.
	Verified(path Path, took time.Duration)
	// Adopted is called for a string that this system did not mint, if keys of other
	// services are adopted.
	Adopted(outcome Outcome)
}

// Unmetered is the [Meter] that counts nothing.
type Unmetered struct{}

// StoreCalled implements [Meter].
func (Unmetered) StoreCalled(string, Result, time.Duration) {}

// RedisCalled implements [Meter].
func (Unmetered) RedisCalled(string, Result, time.Duration) {}

// Verified implements [Meter].
func (Unmetered) Verified(Path, time.Duration) {}

// Adopted implements [Meter].
func (Unmetered) Adopted(Outcome) {}
