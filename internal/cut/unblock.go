package cut

import (
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// unblockInterval is how often a handler that was cut is woken until it returns:
// it, or a writer around ours, may set deadlines of its own.
const unblockInterval = 50 * time.Millisecond

// unblock wakes a handler that is blocked in a read or a write. If a part of the
// answer has left, the write fails too; else there is an answer to be given.
//
// Over HTTP/1 a read deadline also cancels the context that the server has made,
// on which handlers around ours may depend for their answer. So it is set there
// only while there is something to read.
func (x *Exchange) unblock() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.finished {
		return
	}
	if x.hijacked != nil {
		_ = raw(x.hijacked).Close()
		return
	}
	past := time.Unix(1, 0)
	w := innermost(x.response)
	if d, ok := w.(interface{ SetReadDeadline(time.Time) error }); ok && x.reads() {
		_ = d.SetReadDeadline(past)
	}
	if d, ok := w.(interface{ SetWriteDeadline(time.Time) error }); ok && x.sent {
		_ = d.SetWriteDeadline(past)
	}
	if x.again == nil {
		x.again = time.AfterFunc(unblockInterval, x.unblock)
	} else {
		x.again.Reset(unblockInterval)
	}
}

// reads reports whether the handler can be blocked in a read.
func (x *Exchange) reads() bool {
	return x.request.ProtoMajor != 1 || x.request.ContentLength != 0 && x.body.x != nil && !x.body.ended.Load()
}

// innermost returns the server's own writer, whose deadlines can be set from
// another goroutine. Those around it keep a state: see Caddy's
// modules/caddyhttp/timeouts.go.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = u.Unwrap()
	}
}

// raw returns the connection below TLS, which can be closed without a word to the
// other side: it may not be reading.
func raw(conn net.Conn) net.Conn {
	for {
		switch c := conn.(type) {
		case *tls.Conn:
			conn = c.NetConn()
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return conn
		}
	}
}
