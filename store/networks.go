package store

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// MaxNetworks is how many networks one key may have. Each request of the key is compared
// with all of them.
const MaxNetworks = 16

// maxNetworkShown is how much of a text that is no network an error repeats, in bytes.
const maxNetworkShown = 64

// Networks are the networks from which a key may be used. A key without networks may be used
// from anywhere. They are sorted, each is there once, and each has the form of
// [NewNetworks].
type Networks []netip.Prefix

// ParseNetworks reads networks as a person writes them: prefixes such as 192.0.2.0/24, or
// addresses, which stand for themselves alone. The error is an [*InvalidError] for the field
// "networks". It names the first text that is not a network.
func ParseNetworks(texts []string) (Networks, error) {
	prefixes := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		p, err := parseNetwork(text)
		if err != nil {
			return nil, &InvalidError{
				Field:  "networks",
				Reason: fmt.Sprintf("%.*q is not an IP address or a prefix such as 192.0.2.0/24 or 2001:db8::/32", maxNetworkShown, text),
			}
		}
		prefixes = append(prefixes, p)
	}
	networks := NewNetworks(prefixes)
	if len(networks) > MaxNetworks {
		return nil, &InvalidError{Field: "networks", Reason: fmt.Sprintf("a key can have %d networks at most", MaxNetworks)}
	}
	return networks, nil
}

// parseNetwork reads a prefix, or an address. The zone of an address names an interface of one
// machine (RFC 4007 section 6), so it is refused.
func parseNetwork(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		return netip.ParsePrefix(text) // which refuses zones
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	if address.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%s has a zone", address)
	}
	return netip.PrefixFrom(address, address.BitLen()), nil
}

// NewNetworks returns the networks in the form in which they are compared. The bits behind a
// prefix are zero. A prefix of IPv4 addresses in their IPv6 form (RFC 4291 section 2.5.5.2) is
// one of IPv4. A prefix that is not valid stays: it contains no address, so the key cannot be
// used more widely than somebody has meant.
func NewNetworks(prefixes []netip.Prefix) Networks {
	if len(prefixes) == 0 {
		return nil
	}
	networks := make(Networks, 0, len(prefixes))
	for _, p := range prefixes {
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		networks = append(networks, p.Masked())
	}
	slices.SortFunc(networks, netip.Prefix.Compare)
	return slices.Compact(networks)
}

// Allow reports whether a client with this address may use the key. Without networks every
// client may. Text that is no address, and an address with a zone, is in no network.
func (n Networks) Allow(client string) bool { return len(n) == 0 || n.contain(client) }

func (n Networks) contain(client string) bool {
	address, err := netip.ParseAddr(client)
	if err != nil {
		return false
	}
	address = address.Unmap()
	for _, p := range n {
		if p.Contains(address) {
			return true
		}
	}
	return false
}

// Strings returns the networks as texts, and never nil.
func (n Networks) Strings() []string {
	texts := make([]string, 0, len(n))
	for _, p := range n {
		texts = append(texts, p.String())
	}
	return texts
}

// Equal reports whether both are the same networks.
func (n Networks) Equal(other Networks) bool { return slices.Equal(n, other) }
