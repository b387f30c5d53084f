package integration_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// webSocketUpstream echoes messages and keeps the header of the last handshake.
type webSocketUpstream struct {
	addr string
	last atomic.Pointer[http.Header]
}

func newWebSocketUpstream(tb testing.TB) *webSocketUpstream {
	tb.Helper()
	u := new(webSocketUpstream)
	server := httptest.NewServer(u)
	tb.Cleanup(server.Close)
	u.addr = server.Listener.Addr().String()
	return u
}

// ServeHTTP implements [http.Handler].
func (u *webSocketUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := r.Header.Clone()
	u.last.Store(&header)
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	for {
		kind, message, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		if err := conn.Write(r.Context(), kind, message); err != nil {
			return
		}
	}
}

// handshake returns the header of the handshake that the client has just made.
func (u *webSocketUpstream) handshake(tb testing.TB) http.Header {
	tb.Helper()
	header := u.last.Swap(nil)
	if header == nil {
		tb.Fatal("upstream received no handshake")
	}
	return *header
}

// identityOf is [received.identity] of what a parser made of a request.
func identityOf(h http.Header) []string {
	var r received
	for name, values := range h {
		for _, value := range values {
			r.fields = append(r.fields, name+": "+value)
		}
	}
	return r.identity()
}

type roundTripperFunc func(*http.Request) (*http.Response, error)

func (f roundTripperFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestHeaderWebSocketCarriesTheIdentity(t *testing.T) {
	upstream := newWebSocketUpstream(t)
	p := startHeaderProxyTo(t, nil, upstream.addr)
	handshake := []struct {
		name                string
		connection, upgrade []string
	}{
		{"an ordinary handshake", []string{"Upgrade"}, []string{"websocket"}},
		{"Connection names an identity header", []string{"Upgrade, X-Lumio-Key-Id"}, []string{"websocket"}},
		{"a second line names one", []string{"Upgrade", "x_lumio_key_label,X-LUMIO-PERMISSIONS"}, []string{"websocket"}},
		{"a first line names one", []string{"\tX-Lumio-Auth-Type ,", "keep-alive, upgrade"}, []string{"WebSocket"}},
	}
	for _, tt := range handshake {
		for _, r := range p.routes() {
			t.Run(tt.name+", "+r.name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), answerTimeout)
				defer cancel()
				transport := new(http.Transport)
				defer transport.CloseIdleConnections()
				header := make(http.Header)
				for _, f := range slices.Concat(r.fields, forged()) {
					header.Add(f.name, f.value)
				}
				conn, response, err := websocket.Dial(ctx, "ws://"+p.plain+r.path, &websocket.DialOptions{
					HTTPHeader: header,
					HTTPClient: &http.Client{Transport: roundTripperFunc(func(r *http.Request) (*http.Response, error) {
						r = r.Clone(r.Context())
						r.Header["Connection"], r.Header["Upgrade"] = tt.connection, tt.upgrade
						return transport.RoundTrip(r)
					})},
				})
				if err != nil {
					t.Fatalf("%v, %v", err, response)
				}
				defer conn.CloseNow()
				got := upstream.handshake(t)
				if diff := cmp.Diff(r.want, identityOf(got)); diff != "" {
					t.Errorf("identity at the upstream (-want +got):\n%s", diff)
				}
				if upgrade := got["Upgrade"]; len(upgrade) != 1 || !strings.EqualFold(upgrade[0], "websocket") {
					t.Errorf("Upgrade %q at the upstream, want websocket alone", upgrade)
				}
				if err := conn.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
					t.Fatal(err)
				}
				if _, message, err := conn.Read(ctx); err != nil || string(message) != "hello" {
					t.Errorf("message %q, %v, want its echo", message, err)
				}
				if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
					t.Errorf("close: %v", err)
				}
			})
		}
	}
}

// TestHeaderWebSocketOverHTTP3 writes the frame of one message itself, since no
// client library speaks RFC 9220.
func TestHeaderWebSocketOverHTTP3(t *testing.T) {
	upstream := newWebSocketUpstream(t)
	p := startHeaderProxyTo(t, nil, upstream.addr)
	for _, r := range p.routes() {
		t.Run(r.name, func(t *testing.T) {
			fields := slices.Concat(r.fields, forged(), []field{{"sec-websocket-version", "13"}})
			stream, status := extendedConnect(t, p, r.path, "websocket", fields)
			if status != http.StatusOK {
				t.Fatalf("status %d, want 200", status)
			}
			if diff := cmp.Diff(r.want, identityOf(upstream.handshake(t))); diff != "" {
				t.Errorf("identity at the upstream (-want +got):\n%s", diff)
			}
			// RFC 6455 section 5.2: final, text, masked with zeros, 5 bytes.
			if _, err := stream.Write([]byte("\x81\x85\x00\x00\x00\x00hello")); err != nil {
				t.Fatal(err)
			}
			echo := make([]byte, 7)
			if _, err := io.ReadFull(stream, echo); err != nil || !bytes.Equal(echo, []byte("\x81\x05hello")) {
				t.Errorf("frame %q, %v, want the echo", echo, err)
			}
			// A close frame, and the end of the stream: Caddy may stop now.
			if _, err := stream.Write([]byte("\x88\x80\x00\x00\x00\x00")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(stream); err != nil {
				t.Errorf("the stream did not end well: %v", err)
			}
		})
	}
}

func TestHeaderOtherProtocolsOverHTTP3AreRefused(t *testing.T) {
	p := startHeaderProxy(t)
	for _, protocol := range []string{"webtransport", "connect-udp", "WebSocket"} {
		for _, r := range p.routes() {
			t.Run(protocol+", "+r.name, func(t *testing.T) {
				if _, status := extendedConnect(t, p, r.path, protocol, r.fields); status != http.StatusBadRequest {
					t.Errorf("status %d, want 400", status)
				}
				p.upstream.nothing(t)
			})
		}
	}
}

func extendedConnect(t *testing.T, p *headerProxy, path, protocol string, fields []field) (*http3.RequestStream, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerTimeout)
	t.Cleanup(cancel)
	conn, err := quic.DialAddr(ctx, p.secure, p.tls(http3.NextProtoH3), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseWithError(0, "") })
	transport := new(http3.Transport)
	t.Cleanup(func() { transport.Close() })
	stream, err := transport.NewClientConn(conn).OpenRequestStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodConnect, "https://localhost"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Proto = protocol
	for _, f := range fields {
		request.Header[f.name] = append(request.Header[f.name], f.value)
	}
	if err := stream.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		t.Fatal(err)
	}
	if err := stream.SendRequestHeader(request); err != nil {
		t.Fatal(err)
	}
	response, err := stream.ReadResponse()
	if err != nil {
		t.Fatal(err)
	}
	return stream, response.StatusCode
}

// TestHeaderOtherUpgradesAreServedAsTheyAre sends what clients offer of their own
// accord, and what mixes websocket with something else.
func TestHeaderOtherUpgradesAreServedAsTheyAre(t *testing.T) {
	p := startHeaderProxy(t)
	tests := []struct {
		name   string
		fields []field
	}{
		{"h2c, as curl --http2 and Java's HttpClient ask", []field{
			{"Connection", "Upgrade, HTTP2-Settings"}, {"Upgrade", "h2c"}, {"HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA"},
		}},
		{"h2c in another case, over several lines", []field{
			{"Connection", "upgrade"}, {"connection", "http2-settings"}, {"Upgrade", "H2C"}, {"upgrade", "h2c,"}, {"http2-settings", "AAMAAABk"},
		}},
		{"h2c beside an identity header in Connection", []field{
			{"Connection", "Upgrade, HTTP2-Settings, X-Lumio-Key-Id"}, {"Upgrade", "h2c"}, {"HTTP2-Settings", "AAMAAABk"},
		}},
		{"TLS, as Apache's HttpClient asks", []field{{"Connection", "Upgrade"}, {"Upgrade", "TLS/1.2"}}},
		{"TLS and h2c", []field{{"Connection", "Upgrade, HTTP2-Settings"}, {"Upgrade", "TLS/1.2, h2c"}, {"HTTP2-Settings", "AAMAAABk"}}},
		{"a protocol that nobody knows", []field{{"Connection", "Upgrade"}, {"Upgrade", "foo"}}},
		{"websocket before h2c", []field{{"Connection", "Upgrade, HTTP2-Settings"}, {"Upgrade", "websocket, h2c"}, {"HTTP2-Settings", "AAMAAABk"}}},
		{"websocket after h2c, in a line of its own", []field{{"Connection", "Upgrade"}, {"Upgrade", "h2c"}, {"Upgrade", "websocket"}}},
		{"websocket twice", []field{{"Connection", "Upgrade"}, {"Upgrade", "websocket"}, {"Upgrade", "websocket"}}},
		{"websocket with a version", []field{{"Connection", "Upgrade"}, {"Upgrade", "websocket/13"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			overAll(t, p, only(hasConnection), func(t *testing.T, s sender, r route) {
				request := p.expect(t, s, r, exchange{method: "GET", fields: slices.Concat(r.fields, tt.fields)})
				for _, name := range []string{"Upgrade", "HTTP2-Settings"} {
					if values := request.values(name); values != nil {
						t.Errorf("%s %q at the upstream", name, values)
					}
				}
				connection := strings.ToLower(strings.Join(request.values("Connection"), ","))
				if strings.Contains(connection, "upgrade") || strings.Contains(connection, "http2-settings") {
					t.Errorf("Connection %q at the upstream", connection)
				}
			})
		})
	}
}

func TestHeaderConnectIsRefused(t *testing.T) {
	p := startHeaderProxy(t)
	for _, s := range senders {
		t.Run(s.name, func(t *testing.T) {
			got := s.send(t, p, exchange{
				method: http.MethodConnect, path: "localhost:443",
				fields: []field{{"Authorization", fmt.Sprintf("Bearer %s", p.key)}},
			})
			if got.status != http.StatusMethodNotAllowed {
				t.Errorf("status %d %q, want 405", got.status, got.body)
			}
			p.upstream.nothing(t)
		})
	}
}
