package header_test

import (
	"bufio"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// scriptedBody returns data and then err; before the last of it, it runs atEnd.
type scriptedBody struct {
	io.Reader
	err    error
	atEnd  func()
	closed int
}

func (b *scriptedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == nil {
		return n, nil
	}
	if b.atEnd != nil {
		b.atEnd()
	}
	return n, b.err
}

func (b *scriptedBody) Close() error {
	b.closed++
	return nil
}

func TestStripTrailer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name               string
		announced, arrives http.Header
		now, atEnd         http.Header
	}{
		{
			"announced names go at once, their values never come",
			http.Header{"X-Lumio-Key-Id": nil, "X_lumio_key_label": nil, "Authorization": nil, "X-Sum": nil},
			http.Header{"X-Lumio-Key-Id": {"1"}, "X_lumio_key_label": {"2"}, "Authorization": {"3"}, "X-Sum": {"4"}},
			http.Header{"X-Sum": nil},
			http.Header{"X-Sum": {"4"}},
		},
		{
			"names that were not announced go when they appear",
			http.Header{"X-Sum": nil},
			http.Header{"X.lumio.key.id": {"1"}, "x-lumio-permissions": {"2"}, "X-Other": {"3"}},
			http.Header{"X-Sum": nil},
			http.Header{"X-Sum": nil, "X-Other": {"3"}},
		},
		{
			"a body that was read before has its trailers already",
			http.Header{"X-Lumio-Key-Id": {"1"}, "X-Sum": {"2"}},
			nil,
			http.Header{"X-Sum": {"2"}},
			http.Header{"X-Sum": {"2"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := &http.Request{ContentLength: -1, Header: http.Header{}, Trailer: tt.announced}
			body := &scriptedBody{Reader: strings.NewReader("data"), err: io.EOF, atEnd: func() {
				maps.Copy(r.Trailer, tt.arrives)
			}}
			r.Body = body
			newOwner(t, "X-Lumio-").Strip(r, nil)
			if diff := cmp.Diff(tt.now, r.Trailer); diff != "" {
				t.Errorf("trailer before the body was read (-want +got):\n%s", diff)
			}
			later := r.WithContext(t.Context())
			data, err := io.ReadAll(later.Body)
			if err != nil || string(data) != "data" {
				t.Fatalf("body %q, %v", data, err)
			}
			if diff := cmp.Diff(tt.atEnd, later.Trailer); diff != "" {
				t.Errorf("trailer of a copy after the end (-want +got):\n%s", diff)
			}
			if n, err := later.Body.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("read after the end: %d, %v, want EOF again", n, err)
			}
			if err := later.Body.Close(); err != nil || body.closed != 1 {
				t.Errorf("close: %v, %d times passed on, want once", err, body.closed)
			}
		})
	}
}

func TestStripTrailerPassesOnErrorsOfTheBody(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	r := &http.Request{ContentLength: -1, Header: http.Header{}, Trailer: http.Header{}}
	r.Body = &scriptedBody{Reader: strings.NewReader("da"), err: broken}
	newOwner(t, "X-Lumio-").Strip(r, nil)
	data, err := io.ReadAll(r.Body)
	if !errors.Is(err, broken) || string(data) != "da" {
		t.Errorf("body %q, %v, want what came and the error", data, err)
	}
}

func TestStripReplacesTheBodyOnlyWhereTrailersCanCome(t *testing.T) {
	t.Parallel()
	body := io.NopCloser(strings.NewReader("data"))
	tests := []struct {
		name     string
		body     io.ReadCloser
		length   int64
		trailer  http.Header
		replaced bool
	}{
		{"no body", nil, 0, nil, false},
		{"an empty body", http.NoBody, 0, nil, false},
		{"an empty body with an announcement", http.NoBody, 0, http.Header{"X-Sum": nil}, false},
		{"a known length", body, 4, nil, false},
		{"a known length with an announcement, as HTTP/2 allows", body, 4, http.Header{"X-Sum": nil}, true},
		{"an unknown length", body, -1, nil, true},
		{"an unknown length with an announcement", body, -1, http.Header{"X-Sum": nil}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := &http.Request{Header: http.Header{}, Body: tt.body, ContentLength: tt.length, Trailer: tt.trailer}
			newOwner(t, "X-Lumio-").Strip(r, nil)
			if replaced := r.Body != tt.body; replaced != tt.replaced {
				t.Errorf("body replaced: %v, want %v", replaced, tt.replaced)
			}
		})
	}
}

// TestTrailersOfTheServer asks net/http itself what a handler sees, on the
// server's own request and on a copy such as Caddy makes.
func TestTrailersOfTheServer(t *testing.T) {
	t.Parallel()
	const chunks = "4\r\ndata\r\n0\r\n"
	tests := []struct {
		name, head, trailer string
		onCopy, onOwn       http.Header
	}{
		{
			"announced", "Trailer: X-Lumio-Key-Id, X-Sum, Authorization\r\n",
			"X-Lumio-Key-Id: 1\r\nAuthorization: 2\r\nX-Sum: 3\r\n",
			http.Header{"X-Sum": {"3"}},
			http.Header{"X-Sum": {"3"}},
		},
		{
			"not announced beside others that are", "Trailer: X-Sum\r\n",
			"x_lumio_key_id: 1\r\nX-LUMIO-KEY-ID: 2\r\nX-Sum: 3\r\nX-More: 4\r\n",
			http.Header{"X-Sum": {"3"}, "X-More": {"4"}},
			http.Header{"X-Sum": {"3"}, "X-More": {"4"}},
		},
		{
			"not announced at all", "", "X-Lumio-Key-Id: 1\r\nX-More: 2\r\n",
			nil,
			http.Header{"X-More": {"2"}},
		},
	}
	for _, tt := range tests {
		for _, expect := range []string{"", "Expect: 100-continue\r\n"} {
			for _, own := range []bool{false, true} {
				name, want := tt.name, tt.onCopy
				if expect != "" {
					name += ", after 100-continue"
				}
				if own {
					name, want = name+", on the server's own request", tt.onOwn
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					owner := newOwner(t, "X-Lumio-")
					var got http.Header
					var data []byte
					server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
						if !own {
							r = r.WithContext(r.Context())
						}
						owner.Strip(r, nil)
						data, _ = io.ReadAll(r.Body)
						got = r.Trailer
					}))
					defer server.Close()
					conn, err := net.Dial("tcp", server.Listener.Addr().String())
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"+
						tt.head+expect+"\r\n"+chunks+tt.trailer+"\r\n")
					if err != nil {
						t.Fatal(err)
					}
					response, err := http.ReadResponse(bufio.NewReader(conn), nil)
					if err != nil {
						t.Fatal(err)
					}
					if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusContinue {
						t.Errorf("status %d", response.StatusCode)
					}
					server.Close() // waits for the handler
					if string(data) != "data" {
						t.Errorf("body %q, want %q", data, "data")
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("trailer (-want +got):\n%s", diff)
					}
				})
			}
		}
	}
}
