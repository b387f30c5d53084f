package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// wired connects to a server with this handler.
func wired(t *testing.T, handler http.HandlerFunc) (w *wire, address string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	address = server.Listener.Addr().String()
	w, err := dialWire(address, time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.conn.Close() })
	return w, address
}

func TestWireReadsAnswersToTheirEnd(t *testing.T) {
	t.Parallel()
	n := 0
	w, address := wired(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer key" {
			t.Errorf("the server got %q", got)
		}
		if n++; n == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte("later"))
			return
		}
		_, _ = w.Write([]byte("hello"))
	})
	for _, want := range []int{503, 200, 200} {
		status, err := w.send(request(http.MethodGet, address, "/", "Bearer key", ""))
		if err != nil {
			t.Fatal(err)
		}
		if status != want {
			t.Errorf("status %d, want %d", status, want)
		}
	}
}

// TestConnectionsStayOpen has two loads on the same connections. Each sends once at least.
func TestConnectionsStayOpen(t *testing.T) {
	t.Parallel()
	var opened, requests atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		_, _ = w.Write([]byte("hello"))
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	s := newSite("", server.Listener.Addr().String(), "", "")
	if err := s.connect(); err != nil {
		t.Fatal(err)
	}
	defer s.disconnect()
	s.Length = time.Nanosecond
	for range 2 {
		got, err := s.load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := len(got.latencies); n < clients {
			t.Errorf("%d requests of %d connections", n, clients)
		}
	}
	if opened.Load() != clients || requests.Load() < 2*clients {
		t.Errorf("%d connections, %d requests", opened.Load(), requests.Load())
	}
}
