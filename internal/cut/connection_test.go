package cut_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/cut"
)

// dial opens a connection and writes the text.
func dial(tb testing.TB, s *site, text string) (net.Conn, *bufio.Reader) {
	tb.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, text); err != nil {
		tb.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

const get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// read returns the status of the next answer on a connection, and its body.
func read(tb testing.TB, from *bufio.Reader) (status int, body string) {
	tb.Helper()
	response, err := http.ReadResponse(from, nil)
	if err != nil {
		tb.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		tb.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode, string(text)
}

// TestACutWakesTheHandlerOfAPipeliningClient has clients that have sent a byte of their next
// request. The server does not read from such a client, so only a context can wake the
// handler.
func TestACutWakesTheHandlerOfAPipeliningClient(t *testing.T) {
	for _, p := range []protocol{http1, http1Alone} {
		for name, begun := range map[string]string{"a byte": "G", "the whole": get} {
			t.Run(string(p)+", "+name, func(t *testing.T) {
				woken := make(chan time.Time, 1)
				s := serve(t, p, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					<-r.Context().Done()
					woken <- time.Now()
				}))
				_, answers := dial(t, s, get+begun)
				x := <-s.exchanges
				time.Sleep(10 * time.Millisecond) // the byte arrives
				cutAt := time.Now()
				x.Cut(cut.ErrRevoked)
				t.Logf("woken after %v", (<-woken).Sub(cutAt))
				if o := s.outcome(t); o.Sent || !errors.Is(o.Cause, cut.ErrRevoked) {
					t.Errorf("ended with %+v", o)
				}
				if status, _ := read(t, answers); status != http.StatusUnauthorized {
					t.Errorf("got %d", status)
				}
				if _, err := answers.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the connection goes on: %v", err)
				}
			})
		}
	}
}

// TestACutWakesEveryStream is the same for protocols without such clients.
func TestACutWakesEveryStream(t *testing.T) {
	for _, p := range []protocol{h2, h2c} {
		t.Run(string(p), func(t *testing.T) {
			woken := make(chan time.Time, 1)
			s := serve(t, p, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				<-r.Context().Done()
				woken <- time.Now()
			}))
			go func() {
				x := <-s.exchanges
				cutAt := time.Now()
				x.Cut(cut.ErrRevoked)
				t.Logf("woken after %v", (<-woken).Sub(cutAt))
			}()
			response, err := s.client(t).Get(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if o := s.outcome(t); response.StatusCode != http.StatusUnauthorized || !errors.Is(o.Cause, cut.ErrRevoked) {
				t.Errorf("got %d, %+v", response.StatusCode, o)
			}
		})
	}
}

// TestACutOverHTTP1CancelsTheConnection has the request get no context of its own. The
// handlers around have a living context again when the exchange has finished.
func TestACutOverHTTP1CancelsTheConnection(t *testing.T) {
	upstream := httptest.NewServer(http.NotFoundHandler())
	defer upstream.Close()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(r.Context()) // a copy, as in Caddy
		around := r.Context()
		body := r.Body
		x := cut.New(w, r)
		wrapped, next := x.Wrap(nil)
		if next != r {
			t.Error("the request is a copy")
		}
		x.Cut(cut.ErrRevoked)
		<-next.Context().Done()
		if cause := context.Cause(around); !errors.Is(cause, cut.ErrRevoked) || !errors.Is(cause, context.Canceled) {
			t.Errorf("the cause is %v", cause)
		}
		if _, err := wrapped.Write([]byte("too late")); !errors.Is(err, cut.ErrRevoked) {
			t.Errorf("got %v", err)
		}
		x.Finish()
		if r.Body != body {
			t.Error("the body is still that of the exchange")
		}
		if r.Context().Value(http.ServerContextKey) == nil {
			t.Error("the values of the context are gone")
		}
		again, err := http.NewRequestWithContext(r.Context(), http.MethodGet, upstream.URL, http.NoBody)
		if err != nil {
			t.Error(err)
			return
		}
		response, err := upstream.Client().Do(again)
		if err != nil {
			t.Errorf("a handler around cannot ask another upstream: %v", err)
			return
		}
		_ = response.Body.Close()
		w.WriteHeader(response.StatusCode)
	}))
	http1.hook(server.Config)
	server.Start()
	defer server.Close()
	response, err := server.Client().Post(server.URL, "text/plain", strings.NewReader("content"))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusNotFound || !response.Close {
		t.Errorf("got %d, and the connection ends: %v", response.StatusCode, response.Close)
	}
}

// TestACutConnectionServesNoOtherRequest although a handler around has removed the field
// that says so.
func TestACutConnectionServesNoOtherRequest(t *testing.T) {
	s := serve(t, http1, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	}))
	inner := s.Config.Handler
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(keepAlive{w}, r)
	})
	_, answers := dial(t, s, get)
	(<-s.exchanges).Cut(cut.ErrRevoked)
	if status, _ := read(t, answers); status != http.StatusUnauthorized {
		t.Errorf("got %d", status)
	}
	if _, err := answers.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is not closed: %v", err)
	}
}

// keepAlive removes "Connection: close" from an answer.
type keepAlive struct{ http.ResponseWriter }

func (w keepAlive) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w keepAlive) WriteHeader(status int) {
	w.Header().Del("Connection")
	w.ResponseWriter.WriteHeader(status)
}

// TestAFinishedExchangeCutsNoLaterRequest on the same connection.
func TestAFinishedExchangeCutsNoLaterRequest(t *testing.T) {
	release := make(chan struct{}, 1)
	s := serve(t, http1, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-release
		_, _ = fmt.Fprint(w, r.Context().Err())
	}))
	conn, answers := dial(t, s, get)
	release <- struct{}{}
	first := <-s.exchanges
	read(t, answers)
	s.outcome(t)
	_, _ = io.WriteString(conn, get)
	second := <-s.exchanges
	if first.Cut(cut.ErrRevoked) {
		t.Error("a request that has ended was cut")
	}
	release <- struct{}{}
	if status, body := read(t, answers); status != http.StatusOK || body != "<nil>" {
		t.Errorf("the next request got %d %s", status, body)
	}
	if o := s.outcome(t); o.Cause != nil || second.Cut(cut.ErrRevoked) {
		t.Errorf("ended with %+v", o)
	}
}

// TestACutOfOneStreamLeavesTheOthers that are on the same connection.
func TestACutOfOneStreamLeavesTheOthers(t *testing.T) {
	for _, p := range []protocol{h2, h2c} {
		t.Run(string(p), func(t *testing.T) {
			release := make(chan struct{})
			s := serve(t, p, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-r.Context().Done():
				case <-release:
				}
				_, _ = fmt.Fprint(w, r.RemoteAddr)
			}))
			client := s.client(t)
			answers := make(chan string, 2)
			ask := func() *cut.Exchange {
				go func() {
					response, err := client.Get(s.URL)
					if err != nil {
						answers <- err.Error()
						return
					}
					body, _ := io.ReadAll(response.Body)
					_ = response.Body.Close()
					answers <- fmt.Sprint(response.StatusCode, " ", string(body))
				}()
				return <-s.exchanges
			}
			_, second := ask(), ask()
			second.Cut(cut.ErrRevoked)
			if a := <-answers; !strings.HasPrefix(a, "401") {
				t.Errorf("the one that was cut got %s", a)
			}
			s.outcome(t)
			close(release)
			if a := <-answers; !strings.HasPrefix(a, "200 127.0.0.1:") {
				t.Errorf("the other one got %s", a)
			}
			s.outcome(t)
		})
	}
}

// TestACutOfAHandlersOwnRequestLeavesTheConnection below whose context the handler has made
// it. Such a request says that it is HTTP/1, whatever the client speaks.
func TestACutOfAHandlersOwnRequestLeavesTheConnection(t *testing.T) {
	for _, p := range []protocol{http1, h2, h2c} {
		t.Run(string(p), func(t *testing.T) {
			s := serve(t, p, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				x := cut.New(httptest.NewRecorder(), httptest.NewRequestWithContext(r.Context(), http.MethodGet, "/", http.NoBody))
				_, own := x.Wrap(nil)
				x.Cut(cut.ErrRevoked)
				<-own.Context().Done()
				x.Finish()
				_, _ = fmt.Fprint(w, r.Context().Err())
			}))
			response, err := s.client(t).Get(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if <-s.exchanges; string(body) != "<nil>" {
				t.Errorf("the handler's request ended with %s", body)
			}
		})
	}
}

// TestConnectionsLeaveNothingBehind opens many, some of which are cut or taken over
// (SOAK=1: 100,000). The second server remembers each context below its own until it ends.
func TestConnectionsLeaveNothingBehind(t *testing.T) {
	for name, p := range map[string]protocol{"as in Caddy": http1, "a context that can end": http1Cancelable} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, p, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/cut":
					<-r.Context().Done()
				case "/hijacked":
					conn, _, err := http.NewResponseController(w).Hijack()
					if err == nil {
						_ = conn.Close()
					}
				}
			}))
			n := 4_000
			if os.Getenv("SOAK") != "" {
				n = 100_000
			}
			before := heapAfter(t, s, 400)
			after := heapAfter(t, s, n)
			t.Logf("%d bytes, and %d after %d connections", before, after, n)
			if after > before+uint64(n)*50 {
				t.Errorf("%d bytes are left of each connection", (after-before)/uint64(n))
			}
		})
	}
}

// heapAfter returns the size of the heap after n connections.
func heapAfter(t *testing.T, s *site, n int) uint64 {
	t.Helper()
	for i := range n {
		path := []string{"/", "/", "/cut", "/hijacked"}[i%4]
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		x := <-s.exchanges
		if path == "/cut" {
			x.Cut(cut.ErrRevoked)
		}
		s.outcome(t)
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // a pool keeps its content over one
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// hijackable is a writer like that of net/http for HTTP/1.
type hijackable struct{ *httptest.ResponseRecorder }

func (hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, http.ErrNotSupported
}

// TestWhatAnExchangeAllocates holds it. On a connection of ours it is nothing.
func TestWhatAnExchangeAllocates(t *testing.T) {
	connection := new(cut.Connections).Context(context.Background(), nil)
	alive := func() error { return nil }
	for name, test := range map[string]struct {
		ctx    context.Context
		fields int // in the answer before
		want   float64
	}{
		"on a connection":  {connection, 2, 0},
		"with more fields": {connection, 20, 1},
		"with its own":     {context.Background(), 2, 3}, // context, what cancels it, request
	} {
		w := hijackable{httptest.NewRecorder()}
		for n := range test.fields {
			w.Header().Set(fmt.Sprint("X-", n), "")
		}
		r := httptest.NewRequestWithContext(test.ctx, http.MethodPost, "/", strings.NewReader("content"))
		exchanges := make([]cut.Exchange, 102) // AllocsPerRun calls once more
		next := 0
		got := testing.AllocsPerRun(100, func() {
			x := &exchanges[next]
			next++
			x.Begin(w, r)
			x.Wrap(alive)
			x.Finish()
		})
		if got != test.want {
			t.Errorf("%s: %v allocations, want %v", name, got, test.want)
		}
	}
}
