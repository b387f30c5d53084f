//go:build !race

// The race detector empties pools at random, so allocations cannot be counted under it.

package caddymodule

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/adminplane"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
)

// mostAllocations is how many allocations system_key_auth may add to a proxied request
// with a warm key. Lower it with each allocation that is saved.
const mostAllocations = 14

// Each server has a site. The sites differ by what comes before reverse_proxy.
const (
	bareSite    = "bare"
	fieldsSite  = "the four fields alone"
	guardedSite = "system_key_auth"
)

var proxiedSites = map[string]string{
	bareSite: ``,
	// What tells the upstream as much, by Caddy's own means.
	fieldsSite: `{"handler": "headers", "request": {"delete": ["Authorization"], "set": {
		"X-Lumio-Auth-Type": ["system_key"], "X-Lumio-Key-Id": ["01890a5d-ac96-774b-bcce-b302099a8057"],
		"X-Lumio-Key-Label": ["bench"], "X-Lumio-Permissions": ["bots:read"]}}},`,
	guardedSite: `{"handler": "system_key_auth"},`,
}

// inMemory are the listeners of the network "memory", by host.
var inMemory sync.Map

func init() {
	caddy.RegisterNetwork("memory", func(_ context.Context, _, host, _ string, _ uint, _ net.ListenConfig) (any, error) {
		l := &memoryListener{incoming: make(chan net.Conn), closed: make(chan struct{})}
		inMemory.Store(host, l)
		return l, nil
	})
	caddy.RegisterModule(new(memoryTransport))
}

// memoryListener accepts connections that are pipes.
type memoryListener struct {
	incoming chan net.Conn
	once     sync.Once
	closed   chan struct{}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.incoming:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv6loopback} }

// memoryConn says that it has addresses, as Caddy expects of a client.
type memoryConn struct{ net.Conn }

func (memoryConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv6loopback, Port: 50_000} }
func (memoryConn) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv6loopback, Port: 80} }

// memoryTransport is Caddy's own transport, with an upstream at the end of a pipe.
type memoryTransport struct{ reverseproxy.HTTPTransport }

// CaddyModule implements [caddy.Module].
func (*memoryTransport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.transport.memory", New: func() caddy.Module { return new(memoryTransport) }}
}

// Provision implements [caddy.Provisioner].
func (t *memoryTransport) Provision(ctx caddy.Context) error {
	if err := t.HTTPTransport.Provision(ctx); err != nil {
		return err
	}
	t.Transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go answerAll(there)
		return here, nil
	}
	return nil
}

// answerAll is the upstream. It reads no more of a request than where it ends, so that
// nothing is allocated for it. A request for streamPath gets an answer that does not end.
func answerAll(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	for reader := bufio.NewReader(conn); ; {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return
		}
		if bytes.HasPrefix(line, []byte("GET "+streamPath)) {
			stream(conn)
			return
		}
		if len(line) > len("\r\n") {
			continue
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// startProxied starts a server with all sites, and returns a key.
func startProxied(tb testing.TB) string {
	tb.Helper()
	servers := make(map[string]json.RawMessage)
	for name, before := range proxiedSites {
		servers[name] = fmt.Appendf(nil, `{"listen": ["memory/%s:80"], "protocols": ["h1"], "automatic_https": {"disable": true}, "routes": [{"handle": [%s
			{"handler": "reverse_proxy", "transport": {"protocol": "memory"}, "upstreams": [{"dial": "upstream:80"}]}]}]}`, name, before)
	}
	serversJSON, err := json.Marshal(servers)
	if err != nil {
		tb.Fatal(err)
	}
	config := fmt.Sprintf(`{"admin": {"disabled": true}, "logging": {"logs": {"default": {"level": "ERROR"}}},
		"apps": {"system_keys": {"store": {"driver": "sqlite", "file": %q}}, "http": {"grace_period": "1s", "servers": %s}}}`,
		filepath.Join(tb.TempDir(), "keys.db"), serversJSON)
	if err := caddy.Load([]byte(config), true); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = caddy.Stop() })
	live, err := app.Active().Live(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	_, key, err := adminplane.Service(live).Create(tb.Context(), admin.CLI(), admin.NewKey{Label: "bench", Permissions: []string{"bots:read"}})
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// proxied starts a server with all sites, and returns what sends one request to a site.
// Every site has had one already, so that keys and connections are warm.
func proxied(tb testing.TB) map[string]func() {
	tb.Helper()
	key := startProxied(tb)
	senders := make(map[string]func(), len(proxiedSites))
	for name := range proxiedSites {
		senders[name] = sender(tb, name, key)
		senders[name]() // it waits for Argon2id
	}
	return senders
}

// sender connects to a site, and returns what sends one request and reads its answer.
// It allocates nothing.
func sender(tb testing.TB, name, key string) func() {
	tb.Helper()
	listener, ok := inMemory.Load(name)
	if !ok {
		tb.Fatalf("nobody listens for %q", name)
	}
	here, there := net.Pipe()
	listener.(*memoryListener).incoming <- memoryConn{there}
	tb.Cleanup(func() { _ = here.Close() })
	request := []byte("GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nAuthorization: Bearer " + key + "\r\n\r\n")
	accepted, end := []byte("HTTP/1.1 200 "), []byte("\r\n\r\nhello")
	answer := make([]byte, 4096)
	return func() {
		if _, err := here.Write(request); err != nil {
			tb.Fatal(err)
		}
		for n := 0; !bytes.HasSuffix(answer[:n], end); {
			more, err := here.Read(answer[n:])
			if n += more; err != nil {
				tb.Fatalf("%v after %q", err, answer[:n])
			}
			if n >= len(accepted) && !bytes.HasPrefix(answer[:n], accepted) {
				tb.Fatalf("%s: %q", name, answer[:n])
			}
		}
	}
}

// BenchmarkProxied is one request at a time through Caddy's server, reverse_proxy and
// Caddy's transport. The client and the upstream allocate nothing.
func BenchmarkProxied(b *testing.B) {
	for name, send := range proxied(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				send()
			}
		})
	}
}

// TestAllocationsOfAProxiedRequest is not parallel: it counts what the process allocates.
// The garbage collector is off, since it empties pools. What else the server does only
// adds, so the least of some runs is the request alone.
func TestAllocationsOfAProxiedRequest(t *testing.T) {
	senders := proxied(t)
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	least := func(name string) float64 {
		var runs []float64
		for range 5 {
			runs = append(runs, testing.AllocsPerRun(200, senders[name]))
		}
		return slices.Min(runs)
	}
	bare, fields, guarded := least(bareSite), least(fieldsSite), least(guardedSite)
	t.Logf("%v allocations, %v with the four fields alone, %v with system_key_auth", bare, fields, guarded)
	if added := guarded - bare; added > mostAllocations {
		t.Errorf("system_key_auth adds %v allocations to a request, want %d at most", added, mostAllocations)
	}
}
