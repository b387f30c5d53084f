package integration_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// answerTimeout bounds every wait for an answer, so that a fault is a failure
// and not a hang.
const answerTimeout = 10 * time.Second

// field is a header field or trailer as a client spells it. HTTP/2 and HTTP/3
// have names in lower case only.
type field struct{ name, value string }

// exchange is what a client sends. A body that is not nil is sent without a
// Content-Length.
type exchange struct {
	method, path string
	fields       []field
	body         []byte
	announce     string // the Trailer field
	trailer      []field
}

// answer is what a client gets.
type answer struct {
	status int
	header http.Header
	body   string
}

// sender sends an exchange over one version of the protocol.
type sender struct {
	name    string
	version version
	send    func(tb testing.TB, p *headerProxy, e exchange) answer
}

type version int

const (
	overHTTP10 version = iota
	overHTTP11
	overHTTP2
	overHTTP3
)

// hasConnection: later versions call a request with Connection malformed.
func hasConnection(s sender) bool { return s.version <= overHTTP11 }

// hasTrailers: HTTP/1.0 has no chunks.
func hasTrailers(s sender) bool { return s.version != overHTTP10 }

func isHTTP2(s sender) bool { return s.version == overHTTP2 }

// senders lists every way in.
var senders = []sender{
	{"HTTP/1.0", overHTTP10, func(tb testing.TB, p *headerProxy, e exchange) answer {
		return sendHTTP1(tb, dial(tb, p.plain), "HTTP/1.0", e)
	}},
	{"HTTP/1.1", overHTTP11, func(tb testing.TB, p *headerProxy, e exchange) answer {
		return sendHTTP1(tb, dial(tb, p.plain), "HTTP/1.1", e)
	}},
	{"HTTP/1.1 where Caddy lets underscores and dots pass", overHTTP11, func(tb testing.TB, p *headerProxy, e exchange) answer {
		return sendHTTP1(tb, dial(tb, p.lenient), "HTTP/1.1", e)
	}},
	{"HTTP/1.1 over TLS", overHTTP11, func(tb testing.TB, p *headerProxy, e exchange) answer {
		return sendHTTP1(tb, dialTLS(tb, p, "http/1.1"), "HTTP/1.1", e)
	}},
	{"HTTP/2 over TLS", overHTTP2, func(tb testing.TB, p *headerProxy, e exchange) answer {
		return sendHTTP2(tb, dialTLS(tb, p, "h2"), e)
	}},
	{"HTTP/2 with prior knowledge", overHTTP2, func(tb testing.TB, p *headerProxy, e exchange) answer {
		return sendHTTP2(tb, dial(tb, p.plain), e)
	}},
	{"HTTP/2 where Caddy lets underscores and dots pass", overHTTP2, func(tb testing.TB, p *headerProxy, e exchange) answer {
		return sendHTTP2(tb, dial(tb, p.lenient), e)
	}},
	{"HTTP/3", overHTTP3, sendHTTP3},
}

// only returns the senders for which all of the conditions hold.
func only(conditions ...func(sender) bool) []sender {
	var some []sender
	for _, s := range senders {
		if !slices.ContainsFunc(conditions, func(holds func(sender) bool) bool { return !holds(s) }) {
			some = append(some, s)
		}
	}
	return some
}

func dial(tb testing.TB, addr string) net.Conn {
	tb.Helper()
	conn, err := net.DialTimeout("tcp", addr, answerTimeout)
	if err != nil {
		tb.Fatal(err)
	}
	return bounded(tb, conn)
}

func dialTLS(tb testing.TB, p *headerProxy, protocol string) net.Conn {
	tb.Helper()
	conn, err := tls.Dial("tcp", p.secure, p.tls(protocol))
	if err != nil {
		tb.Fatal(err)
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != protocol {
		tb.Fatalf("negotiated %q, want %q", got, protocol)
	}
	return bounded(tb, conn)
}

func bounded(tb testing.TB, conn net.Conn) net.Conn {
	tb.Helper()
	tb.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		tb.Fatal(err)
	}
	return conn
}

func sendHTTP1(tb testing.TB, conn net.Conn, version string, e exchange) answer {
	tb.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\nHost: localhost\r\n", e.method, e.path, version)
	for _, f := range e.fields {
		fmt.Fprintf(&b, "%s: %s\r\n", f.name, f.value)
	}
	if e.announce != "" {
		fmt.Fprintf(&b, "Trailer: %s\r\n", e.announce)
	}
	if e.body == nil {
		b.WriteString("\r\n")
	} else {
		fmt.Fprintf(&b, "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n", len(e.body), e.body)
		for _, f := range e.trailer {
			fmt.Fprintf(&b, "%s: %s\r\n", f.name, f.value)
		}
		b.WriteString("\r\n")
	}
	return talkHTTP1(tb, conn, e.method, b.String())
}

// talkHTTP1 writes raw and reads one answer.
func talkHTTP1(tb testing.TB, conn net.Conn, method, raw string) answer {
	tb.Helper()
	if _, err := io.WriteString(conn, raw); err != nil {
		tb.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		tb.Fatal(err)
	}
	return read(tb, response)
}

func read(tb testing.TB, response *http.Response) answer {
	tb.Helper()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(body)}
}

// sendHTTP2 writes the frames itself: net/http's client would announce all
// trailers.
func sendHTTP2(tb testing.TB, conn net.Conn, e exchange) answer {
	tb.Helper()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	encode := func(fields ...field) []byte {
		block.Reset()
		for _, f := range fields {
			if err := encoder.WriteField(hpack.HeaderField{Name: strings.ToLower(f.name), Value: f.value}); err != nil {
				tb.Fatal(err)
			}
		}
		return bytes.Clone(block.Bytes())
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)

	head := []field{{":method", e.method}, {":scheme", "https"}, {":authority", "localhost"}, {":path", e.path}}
	if e.method == http.MethodConnect { // RFC 9113 section 8.5
		head = []field{{":method", e.method}, {":authority", e.path}}
	}
	head = append(head, e.fields...)
	if e.announce != "" {
		head = append(head, field{"trailer", e.announce})
	}
	_, err := io.WriteString(conn, http2.ClientPreface)
	err = errors.Join(err, framer.WriteSettings(), framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: encode(head...), EndHeaders: true, EndStream: e.body == nil,
	}))
	if e.body != nil {
		err = errors.Join(err, framer.WriteData(1, e.trailer == nil, e.body))
		if e.trailer != nil {
			err = errors.Join(err, framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 1, BlockFragment: encode(e.trailer...), EndHeaders: true, EndStream: true,
			}))
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	return readHTTP2(tb, framer)
}

func readHTTP2(tb testing.TB, framer *http2.Framer) answer {
	tb.Helper()
	got := answer{header: make(http.Header)}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			tb.Fatal(err)
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = framer.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			for _, f := range frame.RegularFields() {
				got.header.Add(f.Name, f.Value)
			}
			if status := frame.PseudoValue("status"); status != "" {
				got.status, err = strconv.Atoi(status)
			}
			if frame.StreamEnded() {
				return got
			}
		case *http2.DataFrame:
			got.body += string(frame.Data())
			if frame.StreamEnded() {
				return got
			}
		case *http2.RSTStreamFrame:
			tb.Fatalf("stream was reset: %v", frame.ErrCode)
		case *http2.GoAwayFrame:
			tb.Fatalf("connection was closed: %v %q", frame.ErrCode, frame.DebugData())
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
}

// sendHTTP3 lets quic-go's client write trailers that were not announced by
// adding them when it reads the end of the body.
func sendHTTP3(tb testing.TB, p *headerProxy, e exchange) answer {
	tb.Helper()
	transport := &http3.Transport{TLSClientConfig: p.tls(http3.NextProtoH3)}
	defer transport.Close()
	target := "https://" + p.secure
	if e.method != http.MethodConnect {
		target += e.path
	}
	ctx, cancel := context.WithTimeout(tb.Context(), answerTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, e.method, target, nil)
	if err != nil {
		tb.Fatal(err)
	}
	request.Host = "localhost"
	for _, f := range e.fields {
		request.Header[f.name] = append(request.Header[f.name], f.value)
	}
	if e.body != nil {
		request.ContentLength = -1
		request.Trailer = make(http.Header)
		if e.announce != "" {
			for name := range strings.SplitSeq(e.announce, ",") {
				request.Trailer[strings.TrimSpace(name)] = nil
			}
		}
		request.Body = io.NopCloser(io.MultiReader(bytes.NewReader(e.body), readerFunc(func([]byte) (int, error) {
			for _, f := range e.trailer {
				request.Trailer[f.name] = append(request.Trailer[f.name], f.value)
			}
			e.trailer = nil
			return 0, io.EOF
		})))
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		tb.Fatal(err)
	}
	return read(tb, response)
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
