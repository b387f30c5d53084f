// Package observe shows the work that a request may have to wait for: calls on
// the store and on the shared cache, and Argon2id. Each is a span, if the request
// is traced, and its time goes to a [Meter].
//
// Spans are made by whatever made the request's own (Caddy's `tracing`), so that
// there is nothing to configure. Neither spans nor what a meter is told have
// anything in them that names a key: which operation it was, how it ended, and
// how long it took.
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
	// OK is an answer, also that there is no such key.
	OK Result = "ok"
	// Canceled is a call whose caller went away. It says nothing of who was asked.
	Canceled Result = "canceled"
	// Timeout is no answer in time.
	Timeout Result = "timeout"
	// Failed is any other error.
	Failed Result = "error"
)

// Results are all of them.
func Results() []Result { return []Result{OK, Canceled, Timeout, Failed} }

// answers are errors by which a store says something of a key.
var answers = []error{store.ErrNotFound, store.ErrConflict, store.ErrActorGone}

// ResultOf says how a call ended that returned err.
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

// Meter is told what happened, and how long it took. Operations are constants of the
// drivers. It is called by many goroutines at once, and must return at once.
type Meter interface {
	// StoreCalled and RedisCalled are for calls that have ended.
	StoreCalled(operation string, result Result, took time.Duration)
	RedisCalled(operation string, result Result, took time.Duration)
	// Verified is for a minted key of which it was found out whether it is good.
	Verified(path Path, took time.Duration)
	// Adopted is for a string that this system did not mint, if keys of other services
	// are adopted. The outcome is one of package adopt.
	Adopted(outcome string)
}

// Unmetered is nobody to tell.
type Unmetered struct{}

// StoreCalled implements [Meter].
func (Unmetered) StoreCalled(string, Result, time.Duration) {}

// RedisCalled implements [Meter].
func (Unmetered) RedisCalled(string, Result, time.Duration) {}

// Verified implements [Meter].
func (Unmetered) Verified(Path, time.Duration) {}

// Adopted implements [Meter].
func (Unmetered) Adopted(string) {}
