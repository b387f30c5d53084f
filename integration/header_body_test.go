package integration_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/quic-go/quic-go/http3"
)

// TestHeaderBodiesArriveIntact sends a body that does not fit into any buffer on
// the way.
func TestHeaderBodiesArriveIntact(t *testing.T) {
	p := startHeaderProxy(t)
	body := make([]byte, 1<<20)
	if _, err := rand.Read(body); err != nil {
		t.Fatal(err)
	}
	overHTTP3 := &http3.Transport{TLSClientConfig: p.tls(http3.NextProtoH3)}
	defer overHTTP3.Close()
	clients := []struct {
		name, url string
		transport http.RoundTripper
	}{
		{"HTTP/1.1", "http://" + p.plain, new(http.Transport)},
		{"HTTP/2", "https://" + p.secure, &http.Transport{TLSClientConfig: p.tls("h2"), ForceAttemptHTTP2: true}},
		{"HTTP/3", "https://" + p.secure, overHTTP3},
	}
	bodies := []struct {
		name   string
		length int64
		header http.Header
		sum    bool
	}{
		{"of known length", int64(len(body)), nil, false},
		{"in chunks", -1, nil, false},
		{"in chunks with a trailer", -1, nil, true},
		{"of known length, after 100-continue", int64(len(body)), http.Header{"Expect": {"100-continue"}}, false},
		{"in chunks, after 100-continue", -1, http.Header{"Expect": {"100-continue"}}, false},
	}
	for _, c := range clients {
		for _, b := range bodies {
			for _, r := range p.routes()[:2] { // with a key, and without
				t.Run(c.name+", "+b.name+", "+r.name, func(t *testing.T) {
					request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+r.path, bytes.NewReader(body))
					if err != nil {
						t.Fatal(err)
					}
					request.Host, request.ContentLength = "localhost", b.length
					for _, f := range r.fields {
						request.Header.Add(f.name, f.value)
					}
					maps.Copy(request.Header, b.header)
					if b.sum {
						request.Trailer = http.Header{"X-Sum": {"kept"}, "X-Lumio-Key-Id": {"forged"}}
					}
					response, err := c.transport.RoundTrip(request)
					if err != nil {
						t.Fatal(err)
					}
					if got := read(t, response); got.status != http.StatusOK {
						t.Fatalf("status %d %q, want 200", got.status, got.body)
					}
					got := p.upstream.next(t, r.path)
					if !bytes.Equal(got.body, body) {
						t.Errorf("%d bytes arrived, not the %d that were sent", len(got.body), len(body))
					}
					if !slices.Equal(got.identity(), r.want) {
						t.Errorf("identity %q, want %q", got.identity(), r.want)
					}
				})
			}
		}
	}
}

// TestHeaderContinueIsAskedForOnceTheBodyIsWanted holds back the body until the
// proxy asks for it, in the form whose body Strip replaces.
func TestHeaderContinueIsAskedForOnceTheBodyIsWanted(t *testing.T) {
	p := startHeaderProxy(t)
	for _, r := range p.routes() {
		t.Run(r.name, func(t *testing.T) {
			conn := dial(t, p.plain)
			var head strings.Builder
			fmt.Fprintf(&head, "POST %s HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n", r.path)
			for _, f := range r.fields {
				fmt.Fprintf(&head, "%s: %s\r\n", f.name, f.value)
			}
			head.WriteString("Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
			if _, err := io.WriteString(conn, head.String()); err != nil {
				t.Fatal(err)
			}
			reader := bufio.NewReader(conn)
			response, err := http.ReadResponse(reader, nil)
			if err != nil || response.StatusCode != http.StatusContinue {
				t.Fatalf("answer %v, %v, want 100", response, err)
			}
			if _, err := io.WriteString(conn, "4\r\ndata\r\n0\r\nX-Lumio-Key-Id: forged\r\nX-Sum: kept\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			// Caddy's own 100 may be followed by that of the upstream.
			for response.StatusCode == http.StatusContinue {
				if response, err = http.ReadResponse(reader, nil); err != nil {
					t.Fatal(err)
				}
			}
			if got := read(t, response); got.status != http.StatusOK {
				t.Fatalf("status %d %q, want 200", got.status, got.body)
			}
			got := p.upstream.next(t, r.path)
			if string(got.body) != "data" || !slices.Equal(got.trailer, []string{"X-Sum: kept"}) {
				t.Errorf("body %q and trailer %q at the upstream", got.body, got.trailer)
			}
			if !slices.Equal(got.identity(), r.want) {
				t.Errorf("identity %q, want %q", got.identity(), r.want)
			}
		})
	}
}

// TestHeaderRefusalLeavesTheConnectionInOrder refuses a request with a body that
// nobody reads, and sends another over the same connection.
func TestHeaderRefusalLeavesTheConnectionInOrder(t *testing.T) {
	p := startHeaderProxy(t)
	conn := dial(t, p.plain)
	refused := "POST /with-key HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-Lumio-Key-Id\r\n\r\n" +
		"4\r\ndata\r\n0\r\nX-Lumio-Key-Id: forged\r\n\r\n"
	if got := talkHTTP1(t, conn, http.MethodPost, refused); got.status != http.StatusUnauthorized {
		t.Fatalf("status %d, want 401", got.status)
	}
	p.upstream.nothing(t)
	if got := talkHTTP1(t, conn, http.MethodGet, "GET /with-key HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+p.key+"\r\n\r\n"); got.status != http.StatusOK {
		t.Fatalf("status %d after a refusal, want 200", got.status)
	}
	if got := p.upstream.next(t, "/with-key").identity(); !slices.Equal(got, p.identity) {
		t.Errorf("identity %q, want %q", got, p.identity)
	}
}
