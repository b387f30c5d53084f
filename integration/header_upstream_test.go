package integration_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http/httputil"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// received is one request as it came over the wire, before any parser could
// make it look better than it was.
type received struct {
	line    string   // the request line
	fields  []string // the lines of the head
	body    []byte
	trailer []string // the lines of the trailer section
}

// values returns what the lines that carry name, in exactly this spelling up to
// case, have as their values.
func (r *received) values(name string) []string {
	var values []string
	for _, line := range r.fields {
		if n, v, _ := strings.Cut(line, ":"); strings.EqualFold(n, name) {
			values = append(values, strings.TrimSpace(v))
		}
	}
	return values
}

// identity returns the sorted lines of head and trailers that any server could
// take for one of the identity headers.
func (r *received) identity() []string {
	var lines []string
	for _, line := range slices.Concat(r.fields, r.trailer) {
		name, value, _ := strings.Cut(line, ":")
		if strings.HasPrefix(strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name)), "x-lumio-") {
			lines = append(lines, name+": "+strings.TrimSpace(value))
		}
	}
	slices.Sort(lines)
	return lines
}

// recorder is an HTTP/1.1 server without a parser of header fields. It answers
// every request with 200 and keeps what it received.
type recorder struct {
	listener net.Listener
	requests chan *received
}

func newRecorder(tb testing.TB) *recorder {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	u := &recorder{listener: listener, requests: make(chan *received, 16)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			// The proxy keeps idle connections, which end with the test.
			stop := context.AfterFunc(tb.Context(), func() { conn.Close() })
			wg.Go(func() {
				defer stop()
				defer conn.Close()
				if err := u.serve(conn); err != nil && !errors.Is(err, io.EOF) && tb.Context().Err() == nil {
					tb.Errorf("upstream: %v", err)
				}
			})
		}
	})
	tb.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	return u
}

func (u *recorder) addr() string { return u.listener.Addr().String() }

// serve reads the requests of one connection and answers each.
func (u *recorder) serve(conn net.Conn) error {
	reader := bufio.NewReader(conn)
	for {
		request, err := u.read(conn, reader)
		if err != nil {
			return err
		}
		u.requests <- request
		if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
			return err
		}
	}
}

func (u *recorder) read(conn net.Conn, reader *bufio.Reader) (*received, error) {
	lines, err := readLines(reader)
	if err != nil {
		return nil, err
	}
	if len(lines) == 0 {
		return nil, errors.New("a request without a request line")
	}
	request := &received{line: lines[0], fields: lines[1:]}
	if len(request.values("Expect")) > 0 {
		if _, err := io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return nil, err
		}
	}
	switch length, coding := request.values("Content-Length"), request.values("Transfer-Encoding"); {
	case len(coding) > 0:
		if request.body, err = io.ReadAll(httputil.NewChunkedReader(reader)); err != nil {
			return nil, err
		}
		request.trailer, err = readLines(reader)
	case len(length) > 0:
		var n int
		if n, err = strconv.Atoi(length[0]); err != nil {
			return nil, err
		}
		request.body = make([]byte, n)
		_, err = io.ReadFull(reader, request.body)
	}
	return request, err
}

// readLines reads up to and including the next empty line.
func readLines(reader *bufio.Reader) ([]string, error) {
	var lines []string
	for text := textproto.NewReader(reader); ; {
		line, err := text.ReadLine()
		if err != nil || line == "" {
			return lines, err
		}
		lines = append(lines, line)
	}
}

// next returns the request that came for path, which must be the next one. It
// is asked after the client has its answer, so there is nothing to wait for.
func (u *recorder) next(tb testing.TB, path string) *received {
	tb.Helper()
	select {
	case request := <-u.requests:
		if got := strings.Fields(request.line); len(got) != 3 || got[1] != path {
			tb.Fatalf("upstream received %q, want a request for %s", request.line, path)
		}
		return request
	default:
		tb.Fatalf("upstream received nothing for %s", path)
		return nil
	}
}

// nothing fails if a request came. It is asked after the client has its answer.
func (u *recorder) nothing(tb testing.TB) {
	tb.Helper()
	select {
	case request := <-u.requests:
		tb.Errorf("upstream received %q, want nothing", request.line)
	default:
	}
}
