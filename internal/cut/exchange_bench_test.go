package cut_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/cut"
)

// BenchmarkExchange is what a request pays to be cuttable.
func BenchmarkExchange(b *testing.B) {
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	alive := func() error { return nil }
	b.ReportAllocs()
	for b.Loop() {
		x := cut.New(w, r)
		x.Wrap(alive)
		x.Finish()
	}
}

// BenchmarkCut is what it takes to cut one.
func BenchmarkCut(b *testing.B) {
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	b.ReportAllocs()
	for b.Loop() {
		x := cut.New(w, r)
		x.Wrap(nil)
		x.Cut(cut.ErrRevoked)
		x.Finish()
	}
}
