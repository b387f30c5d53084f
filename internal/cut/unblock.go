package cut

import (
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// unblockInterval is how often a handler that was cut is woken until it returns. Once is not
// enough, because the handler, or a writer around ours, may set other deadlines.
const unblockInterval = 50 * time.Millisecond

// unblock wakes a handler that is blocked in a read or a write. Writes fail only if a part
// of the answer has left. Otherwise an answer must still be written.
//
// Over HTTP/1 a read deadline also cancels the server's own context. Without [Connections]
// handlers around ours may need that context for their answer. So over HTTP/1 the deadline
// is set only while there is something to read.
func (x *Exchange) unblock() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.finished {
		return
	}
	if x.hijacked != nil {
		_ = withoutTLS(x.hijacked).Close()
		return
	}
	past := time.Unix(1, 0)
	w := innermost(x.response)
	if d, ok := w.(interface{ SetReadDeadline(time.Time) error }); ok && x.mayRead() {
		_ = d.SetReadDeadline(past)
	}
	if d, ok := w.(interface{ SetWriteDeadline(time.Time) error }); ok && x.sent {
		_ = d.SetWriteDeadline(past)
	}
	if x.unblocks == nil {
		x.unblocks = time.AfterFunc(unblockInterval, x.unblock)
	} else {
		x.unblocks.Reset(unblockInterval)
	}
}

// mayRead reports whether the handler can be blocked in a read.
func (x *Exchange) mayRead() bool {
	return !x.http1 || x.body.hasContent && !x.body.ended.Load()
}

// innermost returns the server's own writer. Another goroutine may set its deadlines. The
// writers around it keep state, which is not safe to change from here: see Caddy's
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

// withoutTLS returns the connection below TLS. To close that one sends no alert, for which
// the other side would have to read.
func withoutTLS(conn net.Conn) net.Conn {
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
