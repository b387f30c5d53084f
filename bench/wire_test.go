package main

import (
	"net/http"
	"net/http/httptest"
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
		status, err := w.send(request(address, "/", "key"))
		if err != nil {
			t.Fatal(err)
		}
		if status != want {
			t.Errorf("status %d, want %d", status, want)
		}
	}
}
