package coherence

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// At rest an instance costs the database one statement for each fifth of its lease.
func TestAnInstanceAtRestTakesFiveTurnsALease(t *testing.T) {
	for _, ttl := range []time.Duration{store.MinTTL, 10 * time.Second, 30 * time.Second, store.MaxTTL} {
		synctest.Test(t, func(t *testing.T) {
			var turns atomic.Int64
			s := &stub{renew: func(turn *store.Turn) (*store.View, error) {
				turns.Add(1)
				view := calm(1)
				view.InLog = turn.Applied == at(1)
				return view, nil
			}}
			f := Start(Config{
				Store: s, Forget: func(store.ID) {}, ForgetAll: func() {}, Lease: NewLease(ttl, time.Now), InFlight: NewInFlight(time.Now), Name: "test",
				Logger: slog.New(slog.DiscardHandler), Now: time.Now, Spread: func(d time.Duration) time.Duration { return d },
			})
			<-f.Ready()
			synctest.Wait()
			turns.Store(0)
			time.Sleep(10*ttl + ttl/10)
			synctest.Wait()
			if n := turns.Load(); n != 50 {
				t.Errorf("%d turns in ten leases of %v", n, ttl)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
