package main

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// struck is a hammer on a server that lets so many requests in and then answers
// otherwise, or cuts. It is over after a hundred.
func struck(t *testing.T, letIn int64, otherwise http.HandlerFunc, answeredAt int64) (*hammer, error) {
	t.Helper()
	var n atomic.Int64
	var answered, over atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := n.Add(1)
		answered.Store(at >= answeredAt)
		over.Store(at >= 100)
		if at > letIn {
			otherwise(w, r)
		}
	}))
	defer server.Close()
	address := server.Listener.Addr().String()
	h := &hammer{address: address, raw: request(http.MethodGet, address, "/", "Bearer key", ""), answered: &answered, over: &over, after: new(atomic.Int64), first: new(atomic.Int64)}
	return h, h.strike()
}

func refuse(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }

func cutOff(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func TestARefusalOrACutEndsAcceptance(t *testing.T) {
	t.Parallel()
	for name, otherwise := range map[string]http.HandlerFunc{"refused": refuse, "cut": cutOff} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, err := struck(t, 10, otherwise, 20)
			if err != nil {
				t.Fatal(err)
			}
			if h.first.Load() == 0 {
				t.Error("no refusal was seen")
			}
			if got := h.after.Load(); got != 80 {
				t.Errorf("%d were sent after the answer, want 80", got)
			}
		})
	}
}

func TestAcceptanceAfterTheAnswerIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := struck(t, 21, refuse, 20); err == nil {
		t.Error("one was let in that was sent after the answer, and nobody minded")
	}
}

func TestAnotherAnswerThanARefusalIsAnError(t *testing.T) {
	t.Parallel()
	unavailable := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	for _, letIn := range []int64{0, 10} {
		if _, err := struck(t, letIn, unavailable, 20); err == nil {
			t.Errorf("503 after %d was taken for a refusal", letIn)
		}
	}
}
