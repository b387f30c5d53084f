package caddymodule

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// progressAfter is how long a wait may take before it is talked about, and
// progressEvery how often it is then.
const (
	progressAfter = time.Second
	progressEvery = 5 * time.Second
)

// revokeProgress says who is waited for, and why.
type revokeProgress struct {
	out    io.Writer
	id     store.ID
	now    func() time.Time
	since  time.Time
	spoken time.Time
}

func (p *revokeProgress) watch(report coherence.Report) {
	now := p.now()
	if p.since.IsZero() {
		p.since = now
	}
	quiet := p.spoken.IsZero() && now.Sub(p.since) < progressAfter || !p.spoken.IsZero() && now.Sub(p.spoken) < progressEvery
	if quiet || report.Total > 0 && len(report.Awaited) == 0 {
		return
	}
	p.spoken = now
	if report.Total == 0 {
		fmt.Fprintf(p.out, "%s  deleted; the store does not say which servers there are, waiting for the longest lease\n", p.id)
		return
	}
	fmt.Fprintf(p.out, "%s  deleted; %d of %d server(s) refuse it, waiting for %s\n", p.id,
		report.Total-len(report.Awaited), report.Total, p.describe(report.Awaited, now))
}

// describe names members and when their leases have run out for sure.
func (p *revokeProgress) describe(members []store.Member, now time.Time) string {
	all := make([]string, 0, len(members))
	for _, m := range members {
		left := max(0, m.TTL-now.Sub(p.since))
		all = append(all, fmt.Sprintf("%s (has not answered, its lease runs out in %s at the latest)",
			printable(m.Name), left.Round(time.Second)))
	}
	return strings.Join(all, ", ")
}

func (p *revokeProgress) end(revoked *admin.Revoked) {
	report := revoked.Report
	text := fmt.Sprintf("Revoked %q (%s): %d of %d server(s) acknowledged", printable(revoked.Label), p.id,
		report.Acknowledged, report.Total)
	if len(report.Expired) > 0 {
		text += fmt.Sprintf(", %d did not answer until the lease had run out or left: %s",
			len(report.Expired), strings.Join(names(report.Expired), ", "))
	}
	if report.Cut > 0 {
		text += fmt.Sprintf("; %d request(s) in flight were cut", report.Cut)
	}
	fmt.Fprintln(p.out, text)
}

func names(members []store.Member) []string {
	all := make([]string, 0, len(members))
	for _, m := range members {
		all = append(all, printable(m.Name))
	}
	slices.Sort(all)
	return all
}
