package verify

import (
	"fmt"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// BenchmarkFence is what the networks of a key cost a request that is let through: of the first
// client with its last digit, and of another one.
func BenchmarkFence(b *testing.B) {
	var sixteen []string
	for i := range 7 {
		sixteen = append(sixteen, fmt.Sprintf("10.%d.0.0/16", i), fmt.Sprintf("2001:db7:%d::/48", i))
	}
	for name, texts := range map[string][]string{
		"none": nil, "two": {"192.0.2.0/24", "2001:db8::/32"}, "sixteen": append(sixteen, "192.0.2.0/24", "2001:db8::/32"),
	} {
		networks, err := store.ParseNetworks(texts)
		if err != nil {
			b.Fatal(err)
		}
		for _, client := range []string{"192.0.2.77", "2001:db8:85a3:8d3:1319:8a2e:370:7347"} {
			for place, first := range map[string]string{"first": client, "other": client[:len(client)-2] + "17"} {
				b.Run(name+"/"+place+"/"+client, func(b *testing.B) {
					f := newFence(networks)
					f.allow(first)
					b.ReportAllocs()
					for b.Loop() {
						if !f.allow(client) {
							b.Fatal("refused")
						}
					}
				})
			}
		}
	}
}
