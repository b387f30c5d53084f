package integration_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
)

// BenchmarkFirstPaint opens the page with a thousand keys in the store: how long
// it is until something can be seen, what crosses the wire in all, and how much of
// it the second time.
func BenchmarkFirstPaint(b *testing.B) {
	for _, backend := range backends(b) {
		b.Run(backend.name, func(b *testing.B) {
			site := newPageSite(b, backend, "")
			for i := range 1000 {
				mint(b, site.keys, fmt.Sprintf("key %d", i), "bots:read", "chat:write")
			}
			browser := site.signedIn(b)
			var paints []float64
			var bytes, again float64
			for b.Loop() {
				browser.open("/system")
				browser.until("performance.getEntriesByName('first-contentful-paint').length > 0")
				paints = append(paints, eval[float64](browser, "performance.getEntriesByName('first-contentful-paint')[0].startTime"))
				again = eval[float64](browser, transferred)
				command(browser, network.ClearBrowserCache, cdp.Empty{})
				browser.open("/system")
				browser.until("performance.getEntriesByName('first-contentful-paint').length > 0")
				bytes = eval[float64](browser, transferred)
			}
			slices.Sort(paints)
			b.ReportMetric(paints[len(paints)/2], "ms/first-paint-p50")
			b.ReportMetric(paints[len(paints)-1], "ms/first-paint-max")
			b.ReportMetric(bytes, "B/first-visit")
			b.ReportMetric(again, "B/next-visit")
		})
	}
}

// transferred is how many bytes the page has cost, headers included.
const transferred = `performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))
	.reduce((sum, e) => sum + e.transferSize, 0)`
