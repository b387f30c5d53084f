package cut

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

// writer lets an answer pass until it is cut. It has the methods that
// [http.ResponseController] and [io.Copy] look for.
type writer struct{ x *Exchange }

func (w *writer) Header() http.Header { return w.x.response.Header() }

// Unwrap is for what does not pass through here, such as deadlines.
func (w *writer) Unwrap() http.ResponseWriter { return w.x.response }

// WriteHeader passes informational answers (RFC 9110 section 15.2), which are no
// part of the final one. Only 101 is final.
func (w *writer) WriteHeader(status int) {
	var cause error
	if status < http.StatusOK && status != http.StatusSwitchingProtocols {
		cause = w.x.check()
	} else {
		cause = w.x.send(status)
	}
	if cause == nil {
		w.x.response.WriteHeader(status)
	}
}

func (w *writer) Write(p []byte) (int, error) {
	if err := w.x.send(http.StatusOK); err != nil {
		return 0, err
	}
	n, err := w.x.response.Write(p)
	return n, w.x.explain(err)
}

// chunk is how much may pass between two checks, in bytes. It leaves sendfile(2)
// its use.
const chunk = 1 << 20

// ReadFrom implements [io.ReaderFrom].
func (w *writer) ReadFrom(source io.Reader) (n int64, err error) {
	target, ok := w.x.response.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{w}, source)
	}
	for {
		if err := w.x.send(http.StatusOK); err != nil {
			return n, err
		}
		limited := io.LimitedReader{R: source, N: chunk}
		m, err := target.ReadFrom(&limited)
		n += m
		if err != nil || limited.N > 0 {
			return n, w.x.explain(err)
		}
	}
}

// Flush implements [http.Flusher].
func (w *writer) Flush() { _ = w.FlushError() }

// FlushError is what [http.ResponseController] prefers to Flush.
func (w *writer) FlushError() error {
	if err := w.x.send(http.StatusOK); err != nil {
		return err
	}
	return w.x.explain(http.NewResponseController(w.x.response).Flush())
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
	w.x.hijacked, w.x.sent = conn, true
	if w.x.status == 0 {
		w.x.status = http.StatusSwitchingProtocols
	}
	cause := w.x.cause
	w.x.mu.Unlock()
	if cause != nil {
		_ = raw(conn).Close()
		return nil, nil, cause
	}
	return conn, buffered, nil
}

// explain puts the cause in the place of an error that came of it.
func (x *Exchange) explain(err error) error {
	if err == nil || !x.isCut.Load() {
		return err
	}
	return x.check()
}

// body lets a request's content pass until it is cut.
type body struct {
	io.ReadCloser
	x     *Exchange
	ended atomic.Bool // nothing more can be read
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
