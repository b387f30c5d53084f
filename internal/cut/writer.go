package cut

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

// writer lets an answer pass until the request is cut. It has the methods that
// [http.ResponseController] and [io.Copy] look for.
type writer struct{ x *Exchange }

func (w *writer) Header() http.Header { return w.x.response.Header() }

// Unwrap lets [http.ResponseController] find the methods that writer does not have, such as
// those for deadlines.
func (w *writer) Unwrap() http.ResponseWriter { return w.x.response }

// WriteHeader implements [http.ResponseWriter]. An informational answer (RFC 9110 section
// 15.2) is no part of the final one, so it does not count as sent. 101 is final.
func (w *writer) WriteHeader(status int) {
	var cause error
	if status < http.StatusOK && status != http.StatusSwitchingProtocols {
		if cause = w.x.check(); cause == nil && w.x.Answering != nil {
			w.x.Answering.Answering(w.x.response.Header())
		}
	} else {
		cause = w.x.beginSend(status)
	}
	if cause == nil {
		w.x.response.WriteHeader(status)
	}
}

func (w *writer) Write(p []byte) (int, error) {
	if err := w.x.beginSend(http.StatusOK); err != nil {
		return 0, err
	}
	n, err := w.x.response.Write(p)
	return n, w.x.causeOf(err)
}

// chunk is how many bytes may pass between two checks. It is large enough for sendfile(2) to
// be worth its cost.
const chunk = 1 << 20

// ReadFrom implements [io.ReaderFrom].
func (w *writer) ReadFrom(source io.Reader) (n int64, err error) {
	target, ok := w.x.response.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{w}, source)
	}
	for {
		if err := w.x.beginSend(http.StatusOK); err != nil {
			return n, err
		}
		limited := io.LimitedReader{R: source, N: chunk}
		m, err := target.ReadFrom(&limited)
		n += m
		if err != nil || limited.N > 0 {
			return n, w.x.causeOf(err)
		}
	}
}

// Flush implements [http.Flusher].
func (w *writer) Flush() { _ = w.FlushError() }

// FlushError is what [http.ResponseController] prefers to Flush.
func (w *writer) FlushError() error {
	if err := w.x.beginSend(http.StatusOK); err != nil {
		return err
	}
	return w.x.causeOf(http.NewResponseController(w.x.response).Flush())
}

// Hijack implements [http.Hijacker].
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if err := w.x.check(); err != nil {
		return nil, nil, err
	}
	conn, buffered, err := http.NewResponseController(w.x.response).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.x.mu.Lock()
	// A cut that comes later closes the connection. One that came before is found here.
	w.x.hijacked, w.x.sent = conn, true
	if w.x.status == 0 {
		w.x.status = http.StatusSwitchingProtocols
	}
	cause := w.x.cause
	w.x.mu.Unlock()
	if cause != nil {
		_ = withoutTLS(conn).Close()
		return nil, nil, cause
	}
	return conn, buffered, nil
}

// causeOf replaces an error with the cause if the request was cut. Without a cut it returns
// the error as it is.
func (x *Exchange) causeOf(err error) error {
	if err == nil || !x.isCut.Load() {
		return err
	}
	return x.check()
}

// body lets a request's content pass until the request is cut.
type body struct {
	io.ReadCloser
	x          *Exchange
	hasContent bool
	ended      atomic.Bool // a read has returned an error, so no read can be blocked any more
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.ended.Store(true)
	}
	if cause := b.x.check(); cause != nil {
		return 0, cause
	}
	return n, err
}
