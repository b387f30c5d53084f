package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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

func TestARoundIsTheSumOfItsSlices(t *testing.T) {
	t.Parallel()
	var r result
	r.add(result{took: time.Second, cpu: 3 * time.Microsecond, latencies: []time.Duration{2, 5}})
	r.add(result{took: 3 * time.Second, cpu: time.Microsecond, latencies: []time.Duration{1, 4}})
	if r.rate() != 1 || r.cost() != 1 {
		t.Errorf("%v requests a second of %v µs, want 1 of 1", r.rate(), r.cost())
	}
	if diff := cmp.Diff([]time.Duration{1, 2, 4, 5}, r.latencies); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
