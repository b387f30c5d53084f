package store_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestNetworksAreReadInOneForm(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ texts, want []string }{
		"none":                         {nil, []string{}},
		"a prefix":                     {[]string{"192.0.2.0/24"}, []string{"192.0.2.0/24"}},
		"addresses":                    {[]string{"192.0.2.1", "2001:db8::1"}, []string{"192.0.2.1/32", "2001:db8::1/128"}},
		"bits behind the prefix":       {[]string{"192.0.2.77/24", "2001:db8::1/32"}, []string{"192.0.2.0/24", "2001:db8::/32"}},
		"IPv4 in IPv6":                 {[]string{"::ffff:192.0.2.1", "::ffff:10.1.2.3/104"}, []string{"10.0.0.0/8", "192.0.2.1/32"}},
		"all of IPv4 in IPv6":          {[]string{"::ffff:0:0/96"}, []string{"0.0.0.0/0"}},
		"more than all of IPv4":        {[]string{"::ffff:1.2.3.4/95"}, []string{"::fffe:0:0/95"}},
		"another spelling of the same": {[]string{"2001:DB8:0::/32", "2001:db8::/32", "192.0.2.9/24", "192.0.2.0/24"}, []string{"192.0.2.0/24", "2001:db8::/32"}},
		"any order":                    {[]string{"::/0", "10.0.0.0/9", "10.0.0.0/8"}, []string{"10.0.0.0/8", "10.0.0.0/9", "::/0"}},
		"sixteen, one of them twice":   {append(many(16), "10.0.0.0/32"), many(16)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := store.ParseNetworks(test.texts)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got.Strings()); diff != "" {
				t.Errorf("networks differ (-want +got):\n%s", diff)
			}
		})
	}
}

// many are this many networks in order.
func many(n int) (texts []string) {
	for i := range n {
		texts = append(texts, fmt.Sprintf("10.0.0.%d/32", i))
	}
	return texts
}

func TestWhatIsNoNetworkIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", " ", "office", "192.0.2.0/", "/24", "192.0.2.0/33", "192.0.2.0/-1", "192.0.2.0/024", "192.0.2.0/24/24", "192.0.2/24", "192.0.2.256",
		"192.0.2.0/255.255.255.0", "192.0.2.1-192.0.2.9", "192.0.2.1, 192.0.2.2", " 192.0.2.1", "192.0.2.1:80", "010.0.0.1", "*",
		"2001:db8::/129", "[2001:db8::1]", "fe80::1%eth0", "fe80::%eth0/10", "fe80::/10%eth0", "::ffff:192.0.2.1%1", "192.0.2.1%eth0",
	} {
		_, err := store.ParseNetworks([]string{"192.0.2.0/24", text})
		invalid, ok := errors.AsType[*store.InvalidError](err)
		if !ok || invalid.Field != "networks" || !strings.Contains(invalid.Reason, fmt.Sprintf("%q", text)) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := store.ParseNetworks([]string{strings.Repeat("1", 1000)}); err == nil || len(err.Error()) > 200 {
		t.Errorf("a long text: %v", err)
	}
	if _, err := store.ParseNetworks(many(17)); err == nil || !strings.Contains(err.Error(), "16") {
		t.Errorf("17 networks: %v", err)
	}
}

func TestAKeyIsUsedFromItsNetworksAlone(t *testing.T) {
	t.Parallel()
	fenced, err := store.ParseNetworks([]string{"192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "fe80::/10", "::ffff:203.0.113.0/120"})
	if err != nil {
		t.Fatal(err)
	}
	for client, want := range map[string]bool{
		"192.0.2.0": true, "192.0.2.255": true, "198.51.100.7": true, "2001:db8:ffff::1": true, "203.0.113.9": true,
		"::ffff:192.0.2.1": true, "::ffff:c000:201": true, "fe80::1": true,
		"192.0.1.255": false, "192.0.3.0": false, "198.51.100.8": false, "2001:db9::": false, "203.0.112.255": false, "::1": false,
		"::192.0.2.1": false, "64:ff9b::192.0.2.1": false, "2002:c000:201::": false, "::ffff:192.0.3.1": false,
		// What cannot be read is nowhere.
		"": false, "@": false, "unknown": false, "192.0.2.1:80": false, "192.0.2.1 ": false, "192.0.2.01": false, "[2001:db8::1]": false,
		"fe80::1%eth0": false, "192.0.2.1,10.0.0.1": false, "192.0.2.0/24": false, "3221225985": false,
	} {
		if got := fenced.Allow(client); got != want {
			t.Errorf("%q: %v", client, got)
		}
		if !store.Networks(nil).Allow(client) {
			t.Errorf("%q: a key without networks is refused", client)
		}
	}
	if everywhere, _ := store.ParseNetworks([]string{"::/0"}); everywhere.Allow("192.0.2.1") || !everywhere.Allow("2001:db8::1") {
		t.Error("::/0 is not just IPv6")
	}
	if nowhere := store.NewNetworks([]netip.Prefix{{}}); nowhere.Allow("192.0.2.1") || nowhere.Allow("") || nowhere.Allow("::") {
		t.Error("a network that could not be read lets somebody in")
	}
}

func TestAComparisonAllocatesNothing(t *testing.T) {
	for _, texts := range [][]string{nil, many(16)} {
		networks, _ := store.ParseNetworks(texts)
		for _, client := range []string{"10.0.0.15", "2001:db8:85a3:8d3:1319:8a2e:370:7348"} {
			if n := testing.AllocsPerRun(100, func() { networks.Allow(client) }); n != 0 {
				t.Errorf("%d networks, %s: %v allocations", len(networks), client, n)
			}
		}
	}
}

// FuzzNetworks holds that a text is refused or becomes a network that contains exactly what
// the text says, in a form that does not change when it is read again.
func FuzzNetworks(f *testing.F) {
	for _, text := range []string{"10.0.0.0/8", "10.1.2.3", "::ffff:10.0.0.1/100", "::/0", "fe80::1%x", "2001:db8::/33", "0.0.0.0/0", "1.2.3.4/", "::ffff:1.2.3.4/95"} {
		f.Add(text, "10.0.0.1")
		f.Add(text, "::ffff:10.0.0.1")
	}
	f.Fuzz(func(t *testing.T, text, client string) {
		networks, err := store.ParseNetworks([]string{text})
		if err != nil {
			if networks != nil {
				t.Errorf("%q is refused, and is %v", text, networks)
			}
			return
		}
		if len(networks) != 1 || !networks[0].IsValid() || networks[0] != networks[0].Masked() || networks[0].Addr().Is4In6() && networks[0].Bits() >= 96 {
			t.Fatalf("%q is %v", text, networks)
		}
		again, err := store.ParseNetworks(networks.Strings())
		if err != nil || !again.Equal(networks) {
			t.Errorf("%q is %v, and then %v: %v", text, networks, again, err)
		}
		if !networks.Allow(networks[0].Addr().String()) {
			t.Errorf("%v does not contain its own address", networks)
		}
		address, err := netip.ParseAddr(client)
		want := err == nil && address.Zone() == "" && sameBits(networks[0], address.Unmap())
		if got := networks.Allow(client); got != want {
			t.Errorf("%v allows %q: %v", networks, client, got)
		}
	})
}

// sameBits compares the first bits of an address with those of a prefix, one by one.
func sameBits(p netip.Prefix, address netip.Addr) bool {
	a, b := p.Addr().AsSlice(), address.AsSlice()
	if len(a) != len(b) {
		return false
	}
	for i := range p.Bits() {
		if mask := byte(0x80) >> (i % 8); a[i/8]&mask != b[i/8]&mask {
			return false
		}
	}
	return true
}

func BenchmarkNetworks(b *testing.B) {
	for _, n := range []int{0, 1, 3, 16} {
		networks, _ := store.ParseNetworks(many(n))
		for _, client := range []string{"192.168.100.200", "2001:db8:85a3:8d3:1319:8a2e:370:7348"} {
			b.Run(fmt.Sprintf("%d/%s", n, client), func(b *testing.B) {
				for b.Loop() {
					networks.Allow(client)
				}
			})
		}
	}
}
