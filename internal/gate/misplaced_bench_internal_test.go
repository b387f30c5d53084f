package gate

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/session"
)

// BenchmarkScan looks through a request as a browser sends it, with twelve fields. The
// scan costs what it adds to the walk that removes forged fields.
func BenchmarkScan(b *testing.B) {
	r := &http.Request{
		Host: "api.example.com",
		URL:  &url.URL{Path: "/v1/bots", RawQuery: "limit=25&sort=-created_at"},
		Header: http.Header{
			"Accept":             {"application/json, text/plain, */*"},
			"Accept-Encoding":    {"gzip, deflate, br, zstd"},
			"Accept-Language":    {"de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7"},
			"Authorization":      {"Bearer lm_sys_" + strings.Repeat("0", 76)},
			"Cache-Control":      {"no-cache"},
			"Cookie":             {"session=0199d3f0-0000-7000-8000-000000000001; theme=dark"},
			"Origin":             {"https://app.example.com"},
			"Referer":            {"https://app.example.com/bots/0199d3f0-0000-7000-8000-000000000001"},
			"Sec-Ch-Ua-Platform": {`"Linux"`},
			"Sec-Fetch-Mode":     {"cors"},
			"Sec-Fetch-Site":     {"same-site"},
			"User-Agent":         {"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"},
		},
	}
	g, err := New(Config{Prefix: "X-Lumio-"})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("strip", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			g.owner.Strip(r, nil)
			session.Strip(r.Header)
		}
	})
	b.Run("strip and scan", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if place := g.strip(r); place != "" {
				b.Fatal(place)
			}
		}
	})
}
