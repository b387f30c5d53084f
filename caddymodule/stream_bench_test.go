//go:build !race

// The race detector has memory of its own for everything.

package caddymodule

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"testing"
)

// streamPath is where the upstream answers with a stream.
const streamPath = "/stream"

// stream answers with server-sent events, of which there is one, and waits until the
// connection is closed.
func stream(conn net.Conn) {
	_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"+
		"7\r\ndata:1\n\r\n")
	if err == nil {
		_, _ = conn.Read(make([]byte, 1))
	}
}

// BenchmarkStream is what a stream through the proxy keeps: an answer that does not end. It
// is the heap and the stacks of the process, without TLS. The pipes to the client and the
// upstream count too, and are the same for every site.
// docs/operations/capacity.md has the figures.
//
//	go test ./caddymodule -run '^$' -bench Stream -benchtime 1x
func BenchmarkStream(b *testing.B) {
	key := startProxied(b)
	const streams = 2000
	for name := range proxiedSites {
		b.Run(name, func(b *testing.B) {
			openStream(b, name, key)
			before, n := inUse(), 0
			for b.Loop() {
				for range streams {
					openStream(b, name, key)
				}
				n += streams
			}
			each := float64(inUse()-before) / float64(n)
			b.ReportMetric(each, "B/stream")
			b.ReportMetric((1<<20)/each, "streams/MiB")
		})
	}
}

// openStream returns when the first event has come.
func openStream(b *testing.B, name, key string) {
	b.Helper()
	listener, ok := inMemory.Load(name)
	if !ok {
		b.Fatalf("nobody listens for %q", name)
	}
	here, there := net.Pipe()
	listener.(*memoryListener).incoming <- memoryConn{there}
	b.Cleanup(func() { _ = here.Close() })
	if _, err := io.WriteString(here, "GET "+streamPath+" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+key+"\r\n\r\n"); err != nil {
		b.Fatal(err)
	}
	answer := make([]byte, 4096)
	for n := 0; !bytes.Contains(answer[:n], []byte("data:1")); {
		more, err := here.Read(answer[n:])
		if n += more; err != nil {
			b.Fatalf("%v after %q", err, answer[:n])
		}
	}
}

// inUse is the heap that is alive, and the stacks.
func inUse() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
