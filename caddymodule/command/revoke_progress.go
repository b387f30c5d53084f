package command

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

const (
	// progressAfter is how long a wait takes before it is reported. Servers that are well
	// acknowledge in less, so most revocations print no progress.
	progressAfter = time.Second
	// progressEvery is how often the report is repeated. The lines stay, also in the log of a CI
	// job, so there must not be many.
	progressEvery = 5 * time.Second
)

// revokeProgress reports which servers a revocation waits for, and why. It is for one wait, and
// writes to standard error.
//
// Name stands at the beginning of each line, as several keys may be waited for one after the
// other.
type revokeProgress struct {
	out     io.Writer
	name    string // of what is revoked
	now     func() time.Time
	since   time.Time // when the wait began
	printed time.Time // the last report, or zero
}

// watch is called again and again during the wait. It prints nothing if the wait is short, or if
// no server is awaited any more. The key is named as deleted in each line: whoever interrupts
// the command must know that this cannot be undone.
func (p *revokeProgress) watch(report coherence.Report) {
	now := p.now()
	if p.since.IsZero() {
		p.since = now
	}
	// The first report comes after progressAfter, each further one after progressEvery.
	early := now.Sub(p.since) < progressAfter
	if !p.printed.IsZero() {
		early = now.Sub(p.printed) < progressEvery
	}
	if early || report.Total > 0 && len(report.Awaited) == 0 {
		return
	}
	p.printed = now
	if report.Total == 0 {
		fmt.Fprintf(p.out, "%s  deleted; the store does not say which servers there are, waiting for the longest lease\n", p.name)
		return
	}
	fmt.Fprintf(p.out, "%s  deleted; %d of %d server(s) refuse it, waiting for %s\n", p.name,
		report.Total-len(report.Awaited), report.Total, p.describe(report.Awaited, now))
}

// describe names members and the latest time at which their leases run out. A member may have
// renewed its lease just before the wait began, so the time is a bound. Members write their
// names into the store themselves, so the names are made printable.
func (p *revokeProgress) describe(members []store.Member, now time.Time) string {
	all := make([]string, 0, len(members))
	for _, m := range members {
		left := max(0, m.TTL-now.Sub(p.since))
		all = append(all, fmt.Sprintf("%s (has not answered, its lease runs out in %s at the latest)",
			printable(m.Name), left.Round(time.Second)))
	}
	return strings.Join(all, ", ")
}

// end prints how many servers have acknowledged the revocation, which ones have not, and how
// many requests were cut. A server that has not acknowledged has no lease any more, so it
// accepts nothing from memory. What is printable already.
func (p *revokeProgress) end(what string, revoked *admin.Revoked) {
	report := revoked.Report
	text := fmt.Sprintf("Revoked %s: %d of %d server(s) acknowledged", what, report.Acknowledged, report.Total)
	if len(report.Expired) > 0 {
		text += fmt.Sprintf(", %d did not answer until the lease had run out or left: %s",
			len(report.Expired), strings.Join(namesOf(report.Expired), ", "))
	}
	if report.Cut > 0 {
		text += fmt.Sprintf("; %d request(s) in flight were cut", report.Cut)
	}
	fmt.Fprintln(p.out, text)
}

// namesOf returns the names of members, sorted, so that the same state gives the same line.
func namesOf(members []store.Member) []string {
	all := make([]string, 0, len(members))
	for _, m := range members {
		all = append(all, printable(m.Name))
	}
	slices.Sort(all)
	return all
}
