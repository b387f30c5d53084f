// Package cut ends requests that are in flight, from outside of their handlers.
//
// To cancel a request's context is not enough. A handler may be blocked in a read from a
// client that does not send, or in a write to a client that does not read. It may have
// taken over the connection. And nothing that it writes after the cut may reach the client,
// or the client would take a part of the answer for the whole. An [Exchange] wraps the
// handler's writer and request, and covers each of these cases. It uses net/http alone. It
// has no goroutine, and holds no lock while it reads or writes.
//
// Over HTTP/1 a cut cancels the context of the connection, if the server uses [Connections].
// Otherwise each request gets a context of its own.
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

// Exchange is one request and its answer. [Exchange.Cut] may be called from any goroutine
// at any time. The goroutine that serves the request calls Begin, Wrap and Finish, once
// each.
type Exchange struct {
	response http.ResponseWriter
	request  *http.Request
	http1    bool

	// Answering is called with the header of the answer before it leaves, unless it is nil: once
	// for each informational answer, and once or more for the final one. Set it before Wrap.
	Answering Answering

	connection    *connection // whose context is canceled; nil for one of the request's own
	alive         func() error
	headerAtWrap  []field  // the answer's header at Wrap, to go back to
	headerStorage [2]field // for a short headerAtWrap, without an allocation
	begun         bool     // the final answer has begun; of the handler's goroutine alone
	writer        writer
	body          body

	isCut atomic.Bool // cause is set; can be read without the lock

	mu       sync.Mutex // never held during a read or a write
	cause    error
	cancel   context.CancelCauseFunc // of the connection or the request; nil until Wrap
	sent     bool                    // a part of the answer has left
	status   int                     // of the answer; 0 until it has begun
	hijacked net.Conn                // nil unless the handler has taken over the connection
	unblocks *time.Timer             // calls unblock again; nil until the first call
	finished bool
}

// Answering may change the header of an answer that is about to leave. It is no function, so
// that a request need not allocate one.
type Answering interface {
	Answering(header http.Header)
}

// field is a line of a header.
type field struct {
	name   string
	values []string
}

// New makes an exchange of the writer and the request that a handler was called with.
// Nothing is wrapped yet.
func New(w http.ResponseWriter, r *http.Request) *Exchange {
	x := new(Exchange)
	x.Begin(w, r)
	return x
}

// Begin is [New] for an unused exchange that is a field of another struct, so that it costs
// no allocation of its own.
func (x *Exchange) Begin(w http.ResponseWriter, r *http.Request) {
	x.response, x.request, x.http1 = w, r, r.ProtoMajor == 1
}

// Wrap returns the writer and the request for the next handler. The request is the one that
// Begin has got, or a copy. Alive is called before each part of the answer is sent, and after
// each part of the request was received. If it returns an error, the request is cut with
// that error. So a process that was paused checks before it goes on. Alive may be nil.
func (x *Exchange) Wrap(alive func() error) (http.ResponseWriter, *http.Request) {
	x.alive = alive
	x.keepHeader()
	r, cancel := x.cancelable()
	if r.Body != nil && r.Body != http.NoBody {
		x.body.ReadCloser, x.body.x, x.body.hasContent = r.Body, x, r.ContentLength != 0
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

// keepHeader keeps the answer's header for resetHeader.
func (x *Exchange) keepHeader() {
	header := x.response.Header()
	x.headerAtWrap = x.headerStorage[:0] // Caddy sets one or two fields
	if len(header) > len(x.headerStorage) {
		x.headerAtWrap = make([]field, 0, len(header))
	}
	for name, values := range header {
		x.headerAtWrap = append(x.headerAtWrap, field{name, values})
	}
}

// cancelable returns the request, or a copy with a context of its own, and what cancels it.
func (x *Exchange) cancelable() (*http.Request, context.CancelCauseFunc) {
	if x.connection = connectionOf(x.response, x.request); x.connection != nil {
		return x.request, x.connection.cancel
	}
	ctx, cancel := context.WithCancelCause(x.request.Context())
	return x.request.WithContext(ctx), cancel
}

// Cut ends the request, and reports whether this call has ended it. It returns false if the
// request was cut before, or has finished. It does not wait for the handler.
//
// The errors that the handler gets match the cause and [context.Canceled]. So a reverse
// proxy does not take the cut for a fault of its upstream.
func (x *Exchange) Cut(cause error) bool {
	x.mu.Lock()
	if x.cause != nil || x.finished {
		x.mu.Unlock()
		return false
	}
	x.cause = canceled(cause)
	x.isCut.Store(true) // before the handler is woken: nothing may pass any more
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
	// Cause is why the request was cut, or nil if it was not cut.
	Cause error
	// Sent says that a part of the answer had left. If the request was cut, the caller
	// must then panic with [http.ErrAbortHandler], so that the client does not take the
	// part for the whole. If nothing has left, the caller must write an answer.
	Sent bool
	// Status is the status of the answer, or 0 if the answer has not begun.
	Status int
}

// Finish ends the exchange, when the next handler has returned or panicked. The writer and
// the request of [Exchange.Wrap] must not be used after it.
func (x *Exchange) Finish() Outcome {
	x.mu.Lock()
	x.finished = true
	if x.unblocks != nil {
		x.unblocks.Stop()
	}
	outcome := Outcome{Cause: x.cause, Sent: x.sent, Status: x.status}
	cancel, hijacked := x.cancel, x.hijacked != nil
	x.mu.Unlock()
	if x.body.x != nil {
		x.request.Body = x.body.ReadCloser
	}
	switch {
	case x.connection == nil && cancel != nil:
		cancel(nil)
	case x.connection != nil && outcome.Cause != nil:
		if !hijacked {
			x.connection.end()
		}
		// Handlers around ours have the same request. They may send it to another upstream,
		// for an answer in place of ours.
		*x.request = *x.request.WithContext(context.WithoutCancel(x.request.Context()))
	}
	if outcome.Cause != nil && !outcome.Sent {
		x.resetHeader()
	}
	return outcome
}

// resetHeader takes back the fields of an answer that has not left.
func (x *Exchange) resetHeader() {
	header := x.response.Header()
	clear(header)
	for _, f := range x.headerAtWrap {
		header[f.name] = f.values
	}
	if x.http1 {
		// The rest of the request may still arrive, so the connection cannot be used again.
		header["Connection"] = []string{"close"}
	}
}

// check returns the cause if the request was cut. It asks alive, and cuts the request if
// alive says so.
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

// beginSend is check for a part of the answer that is about to leave. The first part fixes
// the status.
func (x *Exchange) beginSend(status int) error {
	if err := x.check(); err != nil {
		return err
	}
	if !x.begun && x.Answering != nil {
		x.begun = true
		x.Answering.Answering(x.response.Header())
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
	return &canceledError{err}
}

// canceledError is an error that also matches [context.Canceled].
type canceledError struct{ error }

func (e *canceledError) Unwrap() []error { return []error{e.error, context.Canceled} }

// cause is a reason to cut a request. It matches [context.Canceled]. To a handler the
// request was canceled, as if the client had gone away.
type cause string

func (c cause) Error() string { return string(c) }

// Is makes errors.Is(c, context.Canceled) true.
func (cause) Is(target error) bool { return target == context.Canceled }

// The reasons to cut a request.
var (
	// ErrRevoked says that the key's row is gone, has the hash of another key now, or has
	// lost a permission.
	ErrRevoked error = cause("the system key was revoked")
	// ErrExpired says that the key has expired.
	ErrExpired error = cause("the system key has expired")
	// ErrNetwork says that the key has other networks now, and the client is in none of them.
	ErrNetwork error = cause("the system key may not be used from this network any more")
	// ErrLapsed says that the lease has run out. Without it this instance cannot know
	// whether the key is still good.
	ErrLapsed error = cause("the lease has run out")
)
