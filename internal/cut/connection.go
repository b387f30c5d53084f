package cut

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// Connections gives each connection of a server a context that a cut can cancel. A request
// over HTTP/1 then needs no context of its own. Such a context costs a microsecond, and the
// reverse proxy allocates more below it. The connection ends with the cut in any case.
//
// The zero value is ready. Its methods are hooks of [http.Server].
type Connections struct {
	ended sync.Map // each [net.Conn] that must not serve another request
}

// connection is an HTTP/1 connection that a cut can end.
type connection struct {
	cancel context.CancelCauseFunc
	end    func() // see [Connections.State]
}

// connectionKey is the key of the *[connection] in the context of a request.
type connectionKey struct{}

// Context is for [http.Server.ConnContext]. It leaves a context alone that is one of ours,
// since several handlers may share a server. It also leaves alone a context that can be
// canceled: such a context would remember each connection, even after its end.
func (c *Connections) Context(ctx context.Context, conn net.Conn) context.Context {
	if ctx.Done() != nil {
		return ctx
	}
	ctx, cancel := context.WithCancelCause(ctx)
	return context.WithValue(ctx, connectionKey{}, &connection{
		cancel: cancel,
		end:    func() { c.ended.Store(conn, nil) },
	})
}

// State is for [http.Server.ConnState]. It closes a connection that a cut has ended, before
// the next request. The answer to the request that was cut says "Connection: close", but a
// handler around ours may have removed that, and the context would end the next request.
func (c *Connections) State(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateIdle:
		if _, ended := c.ended.Load(conn); ended {
			_ = conn.Close()
		}
	case http.StateClosed, http.StateHijacked:
		c.ended.Delete(conn)
	case http.StateNew, http.StateActive:
	}
}

// connectionOf returns the connection of a request, or nil if the request needs a context of
// its own. Requests over HTTP/2 and HTTP/3 share a connection. HTTP/2 streams inherit its
// value all the same. A request that a handler has made below such a context says that it is
// HTTP/1, whatever the client speaks. Only net/http's own writer for HTTP/1 is a Hijacker.
func connectionOf(w http.ResponseWriter, r *http.Request) *connection {
	if r.ProtoMajor != 1 {
		return nil
	}
	c, _ := r.Context().Value(connectionKey{}).(*connection)
	if c == nil {
		return nil
	}
	if _, ok := innermost(w).(http.Hijacker); !ok {
		return nil
	}
	return c
}
