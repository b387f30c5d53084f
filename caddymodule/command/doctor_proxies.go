package command

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// httpServer is what the check of proxies reads of a server of Caddy's. The names are those of
// the JSON of caddyhttp.Server. Routes are looked at without their types: handlers of any plugin
// may have routes inside.
//
// Strict is a number in Caddy's JSON: 1 reads X-Forwarded-For from the right, and 0 from the
// left. TrustsUnix concerns Unix sockets, and TrustedProxies all other listeners.
type httpServer struct {
	Listen         []string `json:"listen"`
	Routes         any      `json:"routes"`
	Errors         any      `json:"errors"`
	NamedRoutes    any      `json:"named_routes"`
	TrustedProxies *struct {
		Source string   `json:"source"`
		Ranges []string `json:"ranges"`
	} `json:"trusted_proxies"`
	TrustsUnix bool `json:"trusted_proxies_unix"`
	Strict     int  `json:"trusted_proxies_strict"`
}

// checkProxies looks at whose word counts for the address of a client. The networks of keys, the
// limit of failures and the audit log go by that address. Bound says whether keys have networks.
// Raw is the configuration.
//
// Three things are found. If all addresses are proxies, each client can name its own address,
// and networks protect nothing. If keys have networks, and a proxy in front is not named, every
// client has the address of the proxy. If trusted_proxies_strict is not set, Caddy takes the
// first address of X-Forwarded-For, which a client may have sent. The last is fine behind a
// proxy that replaces the field, so it is a note and no fault. Sources of proxies other than
// static are not looked into.
func checkProxies(raw json.RawMessage, bound bool) (string, error) {
	var config struct {
		Apps struct {
			HTTP struct {
				Servers map[string]httpServer `json:"servers"`
			} `json:"http"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return "", err
	}
	var loose []string
	// The same configuration must give the same line.
	for _, name := range slices.Sorted(maps.Keys(config.Apps.HTTP.Servers)) {
		server := config.Apps.HTTP.Servers[name]
		if !handlesKeys([]any{server.Routes, server.Errors, server.NamedRoutes}) {
			continue
		}
		listens := strings.Join(server.Listen, " ")
		switch trusted := server.TrustedProxies; {
		case trusted != nil && trusted.Source == "static" && slices.ContainsFunc(trusted.Ranges, isEverybody):
			return "", fmt.Errorf("the server on %s trusts every address as a proxy, so that each client chooses its own: name the proxies alone in trusted_proxies", listens)
		case bound && !slices.ContainsFunc(server.Listen, isReachable) && !slices.ContainsFunc(server.Listen, server.trusts):
			return "", fmt.Errorf("there are keys with networks, the server on %s is reached from this machine alone, and it has no trusted_proxies: "+
				"if a proxy is in front, every client has its address; set trusted_proxies static 127.0.0.0/8 ::1/128, "+
				"or trusted_proxies_unix for a Unix socket", listens)
		case server.Strict == 0 && slices.ContainsFunc(server.Listen, server.trusts):
			loose = append(loose, listens)
		}
	}
	if len(loose) > 0 {
		return fmt.Sprintf("on %s the first address of X-Forwarded-For counts: the proxy must replace what clients send, or set trusted_proxies_strict",
			strings.Join(loose, ", ")), nil
	}
	return "", nil
}

// handlesKeys reports whether a handler of ours is among the routes, at any depth: in subroutes,
// in handle_response of a proxy, in routes of other plugins.
func handlesKeys(node any) bool {
	switch node := node.(type) {
	case map[string]any:
		switch node["handler"] {
		case "system_key_auth", "system_keys_admin":
			return true
		case "authentication": // Caddy's own, with any providers
			providers, _ := node["providers"].(map[string]any)
			if _, ours := providers["system_key"]; ours {
				return true
			}
		}
		for _, child := range node {
			if handlesKeys(child) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(node, handlesKeys)
	}
	return false
}

// trusts reports whether a proxy may name the client of a request through a listener.
func (s *httpServer) trusts(listener string) bool {
	if address, err := caddy.ParseNetworkAddress(listener); err == nil && address.IsUnixNetwork() {
		return s.TrustsUnix
	}
	return s.TrustedProxies != nil
}

// isEverybody reports whether a range of trusted_proxies has every address of IPv4 or of IPv6.
func isEverybody(addresses string) bool {
	prefix, err := netip.ParsePrefix(addresses)
	return err == nil && prefix.Bits() == 0
}

// isReachable reports whether clients on other machines reach a listener. What is not known
// counts as reachable, and gives no false alarm. Without a host, Caddy listens on all addresses.
func isReachable(listener string) bool {
	address, err := caddy.ParseNetworkAddress(listener)
	if err != nil {
		return true
	}
	if address.IsUnixNetwork() || address.Host == "localhost" {
		return false
	}
	ip, err := netip.ParseAddr(address.Host)
	return err != nil || !ip.IsLoopback()
}
