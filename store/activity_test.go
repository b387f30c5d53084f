package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestNetworkOf(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.77": "192.0.2.0/24", "::ffff:192.0.2.77": "192.0.2.0/24", "2001:db8:1:2::3": "2001:db8:1::/48",
		"fe80::1%eth0": "fe80::/48", "": "invalid Prefix", "@": "invalid Prefix", "192.0.2.0/24": "invalid Prefix",
	} {
		if got := store.NetworkOf(address).String(); got != want {
			t.Errorf("%q counts to %s, want %s", address, got, want)
		}
	}
}

func TestDayOf(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 0, 30, 0, 0, time.FixedZone("", 3600))
	if day := store.DayOf(at); day.String() != "2026-11-22" || !day.Start().Equal(time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("got %v", day)
	}
}

// TestNothingIsClaimedWhereNobodyAsks compares what a key holds with what was asked of it.
func TestNothingIsClaimedWhereNobodyAsks(t *testing.T) {
	t.Parallel()
	key := store.Key{Permissions: []string{"a:read", "b:read", "c:read"}}
	for _, c := range []struct{ asked, want []string }{
		{nil, nil},
		{[]string{"b:read", "x:y"}, []string{"a:read", "c:read"}},
		{[]string{"c:read", "a:read", "b:read"}, nil},
		{[]string{"x:y"}, key.Permissions},
	} {
		if got := key.Unused(c.asked); !slices.Equal(got, c.want) {
			t.Errorf("asked for %q: %q are unused, want %q", c.asked, got, c.want)
		}
	}
}
