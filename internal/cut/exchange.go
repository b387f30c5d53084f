// Package cut ends requests that are in flight, from outside of their handlers.
//
// To cancel a request's context is not enough: a handler may be blocked in a
// read from a client that does not send, or in a write to one that does not
// read; it may have taken over the connection; and what it writes after the cut
// must not reach the client, or a part would pass for the whole. An [Exchange]
// wraps what a handler is given, and knows of each of these. It uses net/http
// alone, has no goroutine and no lock that is held while anything is written.
package cut

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Exchange is one request and its answer. [Exchange.Cut] may be called from any
// goroutine, at any time; Wrap and Finish, once each, from that which serves the
// request.
type Exchange struct {
	response http.ResponseWriter
	request  *http.Request

	alive  func() error
	before []field // of the answer that were there at Wrap
	few    [2]field
	writer writer
	body   body

	isCut atomic.Bool // cause is set; looked at without the lock

	mu       sync.Mutex // never held while anything is read or written
	cause    error
	cancel   context.CancelCauseFunc // nil until Wrap
	sent     bool                    // a part of the answer has left
	status   int                     // of the answer, once it has begun
	hijacked net.Conn
	again    *time.Timer
	finished bool
}

// field is a line of a header.
type field struct {
	name   string
	values []string
}

// New makes an exchange of what a handler was called with. Nothing is wrapped yet.
func New(w http.ResponseWriter, r *http.Request) *Exchange {
	x := new(Exchange)
	x.Begin(w, r)
	return x
}

// Begin is New for an exchange that is a part of something else, and has been
// used for nothing yet.
func (x *Exchange) Begin(w http.ResponseWriter, r *http.Request) {
	x.response, x.request = w, r
}

// Wrap returns what the next handler is to be called with. Before each part that
// is sent, and after each that was received, alive is asked whether the request
// may go on; its error cuts it. A process that was stopped for a while looks so
// before it goes on. It may be nil.
func (x *Exchange) Wrap(alive func() error) (http.ResponseWriter, *http.Request) {
	x.alive = alive
	x.before = x.few[:0] // Caddy sets one or two
	for name, values := range x.response.Header() {
		x.before = append(x.before, field{name, values})
	}
	ctx, cancel := context.WithCancelCause(x.request.Context())
	r := x.request.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		x.body.ReadCloser, x.body.x = r.Body, x
		r.Body = &x.body
	}
	x.writer.x = x
	x.mu.Lock()
	x.cancel = cancel
	cause := x.cause
	x.mu.Unlock()
	if cause != nil {
		cancel(cause)
	}
	return &x.writer, r
}

// Cut ends the request, and reports whether it was this call that did: it may be
// cut already, or finished. It does not wait for the handler.
//
// What the handler sees of it matches the cause and [context.Canceled], so that
// a reverse proxy does not take it for a fault of its upstream.
func (x *Exchange) Cut(cause error) bool {
	x.mu.Lock()
	if x.cause != nil || x.finished {
		x.mu.Unlock()
		return false
	}
	x.cause = canceled(cause)
	x.isCut.Store(true) // first: nothing may pass any more
	cancel := x.cancel
	x.mu.Unlock()
	if cancel != nil {
		cancel(x.cause)
		x.unblock()
	}
	return true
}

// Outcome says how an exchange has ended.
type Outcome struct {
	// Cause is why it was cut; nil if it was not.
	Cause error
	// Sent says that a part of the answer had left by then. The handler is to
	// panic with [http.ErrAbortHandler], so that the client does not take it for
	// the whole. Otherwise the client has got nothing, and is to be answered.
	Sent bool
	// Status is that of the answer, or 0 if none has begun.
	Status int
}

// Finish is to be called when the next handler has returned, or panicked. What
// was wrapped is not touched after it.
func (x *Exchange) Finish() Outcome {
	x.mu.Lock()
	x.finished = true
	if x.again != nil {
		x.again.Stop()
	}
	outcome := Outcome{Cause: x.cause, Sent: x.sent, Status: x.status}
	cancel := x.cancel
	x.mu.Unlock()
	if cancel != nil {
		cancel(nil)
	}
	if outcome.Cause != nil && !outcome.Sent {
		x.reset()
	}
	return outcome
}

// reset takes back the fields of an answer that has not left.
func (x *Exchange) reset() {
	header := x.response.Header()
	clear(header)
	for _, f := range x.before {
		header[f.name] = f.values
	}
	if x.request.ProtoMajor == 1 {
		// The rest of the request may still be on its way.
		header["Connection"] = []string{"close"}
	}
}

// check returns why nothing may pass, if so.
func (x *Exchange) check() error {
	if !x.isCut.Load() {
		if x.alive == nil {
			return nil
		}
		err := x.alive()
		if err == nil {
			return nil
		}
		x.Cut(err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.cause
}

// send is check, and notes that a part of the answer leaves. Its status is that
// with which it began.
func (x *Exchange) send(status int) error {
	if err := x.check(); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.cause == nil {
		x.sent = true
		if x.status == 0 {
			x.status = status
		}
	}
	return x.cause
}

// canceled makes an error match [context.Canceled].
func canceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return &abort{err}
}

type abort struct{ error }

func (a *abort) Unwrap() []error { return []error{a.error, context.Canceled} }

// cause is a reason to cut a request. It matches [context.Canceled]: to a
// handler that looks at its context the request was canceled, as when the client
// goes away.
type cause string

func (c cause) Error() string { return string(c) }

// Is makes errors.Is(c, context.Canceled) true.
func (cause) Is(target error) bool { return target == context.Canceled }

// The reasons to cut a request.
var (
	// ErrRevoked says that the key was deleted, belongs to another one now, or
	// has lost a permission.
	ErrRevoked error = cause("the system key was revoked")
	// ErrExpired says that the key's time is over.
	ErrExpired error = cause("the system key has expired")
	// ErrLapsed says that this instance cannot know whether the key is still
	// good.
	ErrLapsed error = cause("the lease has run out")
)
