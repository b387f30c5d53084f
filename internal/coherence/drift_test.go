package coherence_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestDriftingClocks has an instance whose clock is slow lose its link right after
// a renewal, and a revoker whose clock is fast wait for it. One per cent each is
// what the protocol allows for; at five this must find that the promise is broken.
func TestDriftingClocks(t *testing.T) {
	for _, c := range []struct {
		drift  float64
		broken bool
	}{{0.01, false}, {0.05, true}} {
		t.Run(fmt.Sprintf("%v", c.drift), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { drift(t, c.drift, c.broken) })
		})
	}
}

func drift(t *testing.T, by float64, broken bool) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	slow := &hardware{rate: 1 - by, epoch: time.Now()}
	fast := &hardware{rate: 1 + by, epoch: time.Now()}
	db := newDatabase(random)
	cut := newLink(db, 1)
	lease := coherence.NewLeaseOn(simulatedTTL, slow.now, slow.split)
	f := coherence.Start(coherence.Config{
		Store: cut, Forget: func(store.ID) {}, ForgetAll: func() {}, Lease: lease, InFlight: coherence.NewInFlight(slow.now),
		Logger: slog.New(slog.DiscardHandler), Now: slow.now,
	})
	defer func() {
		cut.set(func() { cut.lost = false })
		_ = f.Close()
	}()
	<-f.Ready()
	cut.set(func() { cut.lost = true })
	revoker := coherence.NewRevoker(newLink(db, 2), fast.now, slog.New(slog.DiscardHandler))
	mine := newLink(db, 3)
	if _, err := mine.Barrier(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := revoker.Wait(context.Background(), nil, fast.now(), nil); err != nil {
		t.Fatal(err)
	}
	if held := lease.State(slow.now()) != coherence.LeaseNone; held != broken {
		t.Errorf("with clocks that differ by %v the instance has a lease after the answer: %v", 2*by, held)
	}
}
