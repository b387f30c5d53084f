package verify_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/usage"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// unwritten is a sink for uses that nobody flushes.
type unwritten struct{}

func (unwritten) RecordUse(context.Context, []store.Use) error { return nil }

// fencedFixture has a verifier that notes uses, and a key for 192.0.2.0/24 and 2001:db8::/32.
func fencedFixture(tb testing.TB) (*fixture, *usage.Recorder, store.ID, string) {
	tb.Helper()
	uses := usage.Start(unwritten{}, time.Hour, slog.New(slog.DiscardHandler), nil)
	tb.Cleanup(func() { _ = uses.Close(context.Background()) })
	f := newFixture(tb, func(c *verify.Config) { c.Uses = uses })
	networks, err := store.ParseNetworks([]string{"192.0.2.0/24", "2001:db8::/32"})
	if err != nil {
		tb.Fatal(err)
	}
	id, key := f.mintHashed(tb, cheap, store.Key{Label: "fenced", Permissions: []string{"bots:read"}, Networks: networks})
	return f, uses, id, key
}

// TestAFencedKeyIsAdmittedFromItsNetworksAlone: from elsewhere it is known whose key it is, the
// request is not in flight, and the key was not used.
func TestAFencedKeyIsAdmittedFromItsNetworksAlone(t *testing.T) {
	t.Parallel()
	for _, state := range []coherence.LeaseState{coherence.LeaseCached, coherence.LeaseDirect} {
		f, uses, id, key := fencedFixture(t)
		f.lease.set(state)
		for _, client := range []string{"198.51.100.1", "::ffff:198.51.100.1", "2001:db9::1", "", "@", "2001:db8::1%eth0", "192.0.2.1"} {
			inside := client == "192.0.2.1"
			for range 2 { // cold, and warm
				var request coherence.Request
				got, identity, err := f.verifier.Admit(t.Context(), key, client, &request)
				if got != id || identity == nil || identity.Label != "fenced" {
					t.Errorf("%q: the key is that of %v, %+v", client, got, identity)
				}
				if !inside && !errors.Is(err, verify.ErrNetwork) || inside && err != nil {
					t.Errorf("%q: %v", client, err)
				}
				if errors.Is(err, verify.ErrInvalidToken) {
					t.Errorf("%q: the key is not valid", client)
				}
				if n := f.inFlight.Len(); inside && n != 1 || !inside && n != 0 {
					t.Errorf("%q: %d requests are in flight", client, n)
				}
				if n := uses.Stats().Waiting; (n > 0) != inside {
					t.Errorf("%q: %d uses", client, n)
				}
				request.Leave()
			}
		}
		if identity, err := f.verifier.Verify(t.Context(), key); identity != nil || !errors.Is(err, verify.ErrNetwork) {
			t.Errorf("without an address: %+v, %v", identity, err)
		}
	}
}

// TestABadKeyIsBadFromEverywhere: the networks of a key are looked at after it was found good.
func TestABadKeyIsBadFromEverywhere(t *testing.T) {
	t.Parallel()
	f, _, id, key := fencedFixture(t)
	for range 2 {
		for _, client := range []string{"192.0.2.1", "198.51.100.1"} {
			_, identity, err := f.verifier.Admit(t.Context(), f.minter.Mint(id, [32]byte{1}), client, nil)
			if identity != nil || !errors.Is(err, verify.ReasonMismatch) {
				t.Errorf("the wrong secret from %s: %+v, %v", client, identity, err)
			}
		}
		_, _, _ = f.verifier.Admit(t.Context(), key, "192.0.2.1", nil)
	}
	f.store.remove(id)
	f.verifier.Forget(id)
	if _, identity, err := f.verifier.Admit(t.Context(), key, "198.51.100.1", nil); identity != nil || !errors.Is(err, verify.ReasonRevoked) {
		t.Errorf("a revoked key from outside: %+v, %v", identity, err)
	}
}

// TestNewNetworksCountAtOnce has the row changed, as the follower is told.
func TestNewNetworksCountAtOnce(t *testing.T) {
	t.Parallel()
	f, _, id, key := fencedFixture(t)
	admit := func(client string, want error) {
		t.Helper()
		if _, _, err := f.verifier.Admit(t.Context(), key, client, nil); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", client, err, want)
		}
	}
	admit("192.0.2.1", nil)
	row := f.store.row(id)
	row.Networks, _ = store.ParseNetworks([]string{"198.51.100.1"})
	f.store.put(row)
	f.verifier.Forget(id)
	admit("192.0.2.1", verify.ErrNetwork)
	admit("198.51.100.1", nil)
	row.Networks = nil
	f.store.put(row)
	f.verifier.Forget(id)
	admit("192.0.2.1", nil)
	admit("", nil)
}

// TestAForeignKeyIsFencedToo has its row found by a search.
func TestAForeignKeyIsFencedToo(t *testing.T) {
	t.Parallel()
	f, _ := adopting(t)
	key := shapes[1]
	id := f.foreign(t, key)
	row := f.store.row(id)
	row.Networks, _ = store.ParseNetworks([]string{"192.0.2.0/24"})
	f.store.put(row)
	for range 2 { // by a search, and by its entry
		if got, identity, err := f.verifier.Admit(t.Context(), key, "198.51.100.1", nil); got != id || identity == nil || !errors.Is(err, verify.ErrNetwork) {
			t.Errorf("from outside: %v, %+v, %v", got, identity, err)
		}
		if _, _, err := f.verifier.Admit(t.Context(), key, "192.0.2.1", nil); err != nil {
			t.Errorf("from inside: %v", err)
		}
	}
}

func TestTheWarmCheckOfAFencedKeyDoesNotAllocate(t *testing.T) {
	f, _, _, key := fencedFixture(t)
	f.clock.freeze()
	ctx, request := t.Context(), new(coherence.Request)
	for client, want := range map[string]error{"192.0.2.7": nil, "2001:db8:85a3:8d3:1319:8a2e:370:7348": nil, "198.51.100.1": verify.ErrNetwork} {
		check := func() {
			*request = coherence.Request{}
			if _, _, err := f.verifier.Admit(ctx, key, client, request); !errors.Is(err, want) {
				t.Fatal(err)
			}
			request.Leave()
		}
		check()
		if n := testing.AllocsPerRun(1000, check); n != 0 {
			t.Errorf("%s: %v allocations", client, n)
		}
	}
}

// sixteen are networks of which the last ones of IPv4 and of IPv6 contain most clients of
// these tests.
func sixteen() (networks []string) {
	for i := range 7 {
		networks = append(networks, fmt.Sprintf("10.%d.0.0/16", i), fmt.Sprintf("2001:db7:%d::/48", i))
	}
	return append(networks, "192.0.2.0/24", "2001:db8::/32")
}

// TestAFenceRemembersWhatIsInsideAlone asks for many addresses, twice, in turn.
func TestAFenceRemembersWhatIsInsideAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	networks, err := store.ParseNetworks(sixteen())
	if err != nil {
		t.Fatal(err)
	}
	_, key := f.mintHashed(t, cheap, store.Key{Label: "fenced", Networks: networks})
	for range 3 {
		for i := range 256 {
			for _, form := range []string{"192.0.2.%d", "192.0.3.%d", "2001:db8::%x", "2001:db9::%x", "::ffff:192.0.2.%d", "%d"} {
				client := fmt.Sprintf(form, i)
				_, _, err := f.verifier.Admit(t.Context(), key, client, nil)
				if inside := networks.Allow(client); inside != (err == nil) || !inside && !errors.Is(err, verify.ErrNetwork) {
					t.Fatalf("%s: %v", client, err)
				}
			}
		}
	}
}
