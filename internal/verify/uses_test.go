package verify_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/usage"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// uses keeps what is written of one key.
type uses struct{ written store.Use }

func (u *uses) RecordUse(_ context.Context, batch []store.Use) error {
	u.written = batch[0]
	return nil
}

// TestAUseCountsFromWhereItCame, and whatever is asked of the identity is noted. A request
// from outside of the key's networks is no use.
func TestAUseCountsFromWhereItCame(t *testing.T) {
	t.Parallel()
	for _, state := range []coherence.LeaseState{coherence.LeaseCached, coherence.LeaseDirect} {
		sink := new(uses)
		recorder := usage.Start(sink, time.Hour, slog.New(slog.DiscardHandler), nil)
		f := newFixture(t, func(c *verify.Config) { c.Uses = recorder })
		f.lease.set(state)
		networks, _ := store.ParseNetworks([]string{"192.0.2.0/24"})
		_, key := f.mintHashed(t, cheap, store.Key{Label: "counted", Permissions: []string{"a:read"}, Networks: networks})
		for range 3 {
			_, identity, err := f.verifier.Admit(t.Context(), key, "192.0.2.7", nil)
			if err != nil {
				t.Fatal(err)
			}
			if !identity.Has("a:read") || identity.Has("b:read") {
				t.Error("the permissions are others")
			}
		}
		if _, _, err := f.verifier.Admit(t.Context(), key, "198.51.100.1", nil); !errors.Is(err, verify.ErrNetwork) {
			t.Error(err)
		}
		if err := recorder.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		w := sink.written
		if len(w.Days) != 1 || w.Days[0].Requests != 3 || w.Days[0].Denied != 0 {
			t.Errorf("%v: days %+v", state, w.Days)
		}
		if len(w.Networks) != 1 || w.Networks[0].Network.String() != "192.0.2.0/24" || w.Networks[0].Requests != 3 {
			t.Errorf("%v: networks %+v", state, w.Networks)
		}
		if len(w.Asked) != 2 || w.Asked[0].Permission != "a:read" || w.Asked[1].Permission != "b:read" {
			t.Errorf("%v: asked %+v", state, w.Asked)
		}
	}
}

// signal tells of each batch.
type signal chan []store.Use

func (s signal) RecordUse(_ context.Context, batch []store.Use) error {
	s <- batch
	return nil
}

// TestTheFirstUseOfASuccessorIsWrittenAtOnce, since it ends the key that it replaces. A
// request from elsewhere is no use.
func TestTheFirstUseOfASuccessorIsWrittenAtOnce(t *testing.T) {
	t.Parallel()
	for _, state := range []coherence.LeaseState{coherence.LeaseCached, coherence.LeaseDirect} {
		sink := make(signal, 10)
		recorder := usage.Start(sink, time.Hour, slog.New(slog.DiscardHandler), nil)
		f := newFixture(t, func(c *verify.Config) { c.Uses = recorder })
		f.lease.set(state)
		networks, _ := store.ParseNetworks([]string{"192.0.2.0/24"})
		id, key := f.mintHashed(t, cheap, store.Key{Label: "successor", Replaces: store.ID{1}, Networks: networks})
		if _, _, err := f.verifier.Admit(t.Context(), key, "198.51.100.1", nil); !errors.Is(err, verify.ErrNetwork) {
			t.Error(err)
		}
		if _, _, err := f.verifier.Admit(t.Context(), key, "192.0.2.7", nil); err != nil {
			t.Fatal(err)
		}
		select {
		case batch := <-sink:
			if len(batch) != 1 || batch[0].ID != id || batch[0].At.IsZero() {
				t.Errorf("written is %+v", batch)
			}
		case <-time.After(time.Minute):
			t.Fatal("the use is not written")
		}
		if err := recorder.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAskingAllocatesNothing on the way that every request goes.
func TestAskingAllocatesNothing(t *testing.T) {
	recorder := usage.Start(new(uses), time.Hour, slog.New(slog.DiscardHandler), nil)
	f := newFixture(t, func(c *verify.Config) { c.Uses = recorder })
	_, key := f.mint(t, "warm", "a:read")
	use := func() {
		_, identity, err := f.verifier.Admit(t.Context(), key, "192.0.2.7", nil)
		if err != nil || !identity.Has("a:read") {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(100, use); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if err := recorder.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
