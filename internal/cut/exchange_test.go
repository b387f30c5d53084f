package cut_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/cut"
)

func TestWaitingForTheUpstream(t *testing.T) {
	protocols(t, func(t *testing.T, over protocol) {
		asked, canceled := make(chan struct{}), make(chan struct{})
		p := proxyTo(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(asked)
			<-r.Context().Done()
			close(canceled)
		}))
		s := serve(t, over, p)
		go func() {
			<-asked
			if !(<-s.exchanges).Cut(cut.ErrRevoked) {
				t.Error("was not cut")
			}
		}()
		response, err := s.client(t).Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, _ := io.ReadAll(response.Body)
		if response.StatusCode != http.StatusUnauthorized || !strings.Contains(string(body), "revoked") {
			t.Errorf("got %d %s", response.StatusCode, body)
		}
		if over.over1() && !response.Close {
			t.Error("the connection is kept, with the rest of a request on it")
		}
		<-canceled
		p.onlyCanceled(t, cut.ErrRevoked)
		if o := s.outcome(t); !errors.Is(o.Cause, cut.ErrRevoked) || o.Sent {
			t.Errorf("ended with %+v", o)
		}
	})
}

// TestACutLeavesTheServersContextAlone over HTTP/1, where there is nothing to read: a
// handler around the one that was cut may send another request in its place.
func TestACutLeavesTheServersContextAlone(t *testing.T) {
	asked := make(chan *cut.Exchange, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner := r.Clone(r.Context())
		inner.Body = io.NopCloser(r.Body) // as Caddy wraps it
		x := cut.New(w, inner)
		_, next := x.Wrap(nil)
		asked <- x
		<-next.Context().Done()
		x.Finish()
		select {
		case <-r.Context().Done():
			w.WriteHeader(499)
		case <-time.After(200 * time.Millisecond):
		}
	}))
	defer server.Close()
	go func() { (<-asked).Cut(cut.ErrRevoked) }()
	response, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("the context of the server ended: %d", response.StatusCode)
	}
}

func TestAStreamIsTruncatedAndNeverEndsCleanly(t *testing.T) {
	protocols(t, func(t *testing.T, over protocol) {
		p := proxyTo(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, "data: x\n\n"); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				time.Sleep(time.Millisecond)
			}
		}))
		s := serve(t, over, p)
		response, err := s.client(t).Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		reader := bufio.NewReader(response.Body)
		if _, err := reader.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		(<-s.exchanges).Cut(cut.ErrRevoked)
		if _, err := io.Copy(io.Discard, reader); err == nil {
			t.Error("the stream ends as if it was whole")
		}
		if o := s.outcome(t); !errors.Is(o.Cause, cut.ErrRevoked) || !o.Sent {
			t.Errorf("ended with %+v", o)
		}
		p.onlyCanceled(t, cut.ErrRevoked)
	})
}

func TestAnUploadIsEnded(t *testing.T) {
	protocols(t, func(t *testing.T, over protocol) {
		began := make(chan struct{})
		p := proxyTo(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = r.Body.Read(make([]byte, 1))
			close(began)
			_, _ = io.Copy(io.Discard, r.Body)
		}))
		s := serve(t, over, p)
		content, feed := io.Pipe()
		defer func() { _ = feed.Close() }()
		go func() {
			_, _ = io.WriteString(feed, "some, and then nothing more")
			<-began
			(<-s.exchanges).Cut(cut.ErrRevoked)
		}()
		response, err := s.client(t).Post(s.URL, "text/plain", content)
		if err == nil {
			defer func() { _ = response.Body.Close() }()
			if response.StatusCode != http.StatusUnauthorized {
				t.Errorf("got %d", response.StatusCode)
			}
		} else if !over.over1() { // HTTP/1.1 clients may see the close before the answer
			t.Error(err)
		}
		if o := s.outcome(t); o.Sent || o.Cause == nil {
			t.Errorf("ended with %+v", o)
		}
		p.onlyCanceled(t, cut.ErrRevoked)
	})
}

// TestAClientThatDoesNotRead blocks the handler in a write.
func TestAClientThatDoesNotRead(t *testing.T) {
	protocols(t, func(t *testing.T, over protocol) {
		wrote := make(chan struct{}, 1<<16)
		s := serve(t, over, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			part := make([]byte, 64<<10)
			for {
				if _, err := w.Write(part); err != nil {
					return
				}
				wrote <- struct{}{}
			}
		}))
		response, err := s.client(t).Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		for blocked := false; !blocked; {
			select {
			case <-wrote:
			case <-time.After(200 * time.Millisecond):
				blocked = true
			}
		}
		(<-s.exchanges).Cut(cut.ErrLapsed)
		if o := s.outcome(t); !o.Sent || !errors.Is(o.Cause, cut.ErrLapsed) {
			t.Errorf("ended with %+v", o)
		}
	})
}

func TestAConnectionThatWasTakenOverIsClosedOnBothSides(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	p := proxyTo(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello\n")
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
		close(closed)
	}))
	s := serve(t, http1, p)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	reader := bufio.NewReader(conn)
	for line := ""; line != "hello\n"; {
		if line, err = reader.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	(<-s.exchanges).Cut(cut.ErrRevoked)
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := reader.ReadByte(); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the client's side is open: %v", err)
	}
	select {
	case <-closed:
	case <-time.After(patience):
		t.Error("the upstream's side is open")
	}
	if o := s.outcome(t); !o.Sent || o.Cause == nil {
		t.Errorf("ended with %+v", o)
	}
}

func TestAHijackAfterTheCutFails(t *testing.T) {
	t.Parallel()
	s := serve(t, http1, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, cut.ErrRevoked) {
			t.Errorf("got %v", err)
		}
	}))
	go func() { (<-s.exchanges).Cut(cut.ErrRevoked) }()
	response, err := s.client(t).Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %d", response.StatusCode)
	}
}

// TestNothingOfTheUpstreamsAnswerIsInOurs has its fields set, and not sent.
func TestNothingOfTheUpstreamsAnswerIsInOurs(t *testing.T) {
	protocols(t, func(t *testing.T, over protocol) {
		s := serve(t, over, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Set-Cookie", "secret=1")
			w.Header().Set("Content-Length", "1000")
			w.Header().Set("Server", "upstream")
			w.WriteHeader(http.StatusEarlyHints) // is not the answer
			<-r.Context().Done()
			w.WriteHeader(http.StatusOK)
			if _, err := w.Write([]byte("too late")); !errors.Is(err, cut.ErrExpired) || !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if err := http.NewResponseController(w).Flush(); !errors.Is(err, cut.ErrExpired) {
				t.Errorf("got %v", err)
			}
			if _, err := w.(io.ReaderFrom).ReadFrom(strings.NewReader("too late")); !errors.Is(err, cut.ErrExpired) {
				t.Errorf("got %v", err)
			}
			if cause := context.Cause(r.Context()); !errors.Is(cause, cut.ErrExpired) {
				t.Errorf("got %v", cause)
			}
		}))
		go func() { (<-s.exchanges).Cut(cut.ErrExpired) }()
		response, err := s.client(t).Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusUnauthorized || strings.Contains(string(body), "too late") {
			t.Errorf("got %d %s, %v", response.StatusCode, body, err)
		}
		if response.Header.Get("Set-Cookie") != "" || response.Header.Get("Server") != "site" {
			t.Errorf("got %v", response.Header)
		}
	})
}

// TestWhoAsksWhetherItMayGoOn has the answer change in the midst of a stream.
func TestWhoAsksWhetherItMayGoOn(t *testing.T) {
	t.Parallel()
	lapsed := errors.New("anything")
	for _, sent := range []bool{false, true} {
		var mu sync.Mutex
		var answer error
		w := httptest.NewRecorder()
		x := cut.New(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("content")))
		wrapped, r := x.Wrap(func() error {
			mu.Lock()
			defer mu.Unlock()
			return answer
		})
		if sent {
			if _, err := wrapped.Write([]byte("part")); err != nil {
				t.Fatal(err)
			}
		}
		answer = lapsed
		if n, err := r.Body.Read(make([]byte, 3)); n != 0 || !errors.Is(err, lapsed) || !errors.Is(err, context.Canceled) {
			t.Errorf("read %d, %v", n, err)
		}
		if _, err := wrapped.Write([]byte("more")); !errors.Is(err, lapsed) {
			t.Errorf("wrote, %v", err)
		}
		if !errors.Is(context.Cause(r.Context()), lapsed) {
			t.Error("the context goes on")
		}
		if o := x.Finish(); o.Sent != sent || !errors.Is(o.Cause, lapsed) {
			t.Errorf("ended with %+v", o)
		}
		if strings.Contains(w.Body.String(), "more") {
			t.Error("more was sent")
		}
	}
}

func TestOnlyTheFirstCutCounts(t *testing.T) {
	t.Parallel()
	x := cut.New(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", http.NoBody))
	if !x.Cut(cut.ErrRevoked) || x.Cut(cut.ErrExpired) {
		t.Error("the first was not, or the second was")
	}
	_, r := x.Wrap(nil)
	if r.Context().Err() == nil || r.Body != http.NoBody {
		t.Error("a request that was cut before it began goes on")
	}
	if o := x.Finish(); !errors.Is(o.Cause, cut.ErrRevoked) {
		t.Errorf("ended with %+v", o)
	}

	done := cut.New(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", http.NoBody))
	done.Wrap(nil)
	if o := done.Finish(); o.Cause != nil || done.Cut(cut.ErrRevoked) {
		t.Errorf("a request that had ended was cut: %+v", o)
	}
}

// TestCutsThatRace has them meet every step of a request.
func TestCutsThatRace(t *testing.T) {
	protocols(t, func(t *testing.T, over protocol) {
		s := serve(t, over, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusOK)
			_, _ = io.WriteString(w, "some")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "whole")
		}))
		client := s.client(t)
		for n := range 300 {
			go func() {
				x := <-s.exchanges
				time.Sleep(time.Duration(n) * time.Microsecond)
				x.Cut(cut.ErrRevoked)
			}()
			response, err := client.Post(s.URL, "text/plain", strings.NewReader("content"))
			var body []byte
			if err == nil {
				body, err = io.ReadAll(response.Body)
				_ = response.Body.Close()
			}
			o := s.outcome(t)
			switch {
			case o.Cause == nil && (err != nil || string(body) != "somewhole"):
				t.Errorf("a request that was not cut got %q, %v", body, err)
			case o.Cause != nil && o.Sent && err == nil && string(body) == "somewhole":
				t.Error("a request that was cut ends as if it was whole")
			case o.Cause != nil && !o.Sent && (err != nil || response.StatusCode != http.StatusUnauthorized):
				t.Errorf("a request that was cut before the answer got %v", err)
			}
		}
	})
}

// TestNoGoroutinePerExchange has many requests in flight, with the contexts that a
// server makes.
func TestNoGoroutinePerExchange(t *testing.T) {
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), http.ServerContextKey, new(http.Server)))
	defer cancel()
	before := runtime.NumGoroutine()
	exchanges := make([]*cut.Exchange, 1000)
	for i := range exchanges {
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader("body"))
		exchanges[i] = cut.New(httptest.NewRecorder(), r)
		exchanges[i].Wrap(func() error { return nil })
	}
	if n := runtime.NumGoroutine() - before; n > 10 {
		t.Errorf("%d goroutines for %d requests", n, len(exchanges))
	}
	for _, x := range exchanges {
		x.Finish()
	}
}
