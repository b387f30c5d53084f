package storetest

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// used are n records of a key's use, 7 ms apart, the first so many milliseconds after the
// epoch. A store may keep them together.
func used(key *store.Key, from, n int) []store.AuditRecord {
	records := make([]store.AuditRecord, n)
	for i := range records {
		r := auditAt(key, store.AuditUsed, 0)
		r.ID, r.At = store.ID{}, epoch.Add(time.Duration(from+7*i)*time.Millisecond+123*time.Microsecond)
		r.Request.Status += i
		if i%2 == 0 {
			r.Details = nil
		}
		records[i] = r.Clean()
	}
	return records
}

// auditOfOneKey has the records of busy keys overlap in time, and asks for parts of them.
func auditOfOneKey(t *testing.T, b *Backend) {
	s := migrated(t, b)
	one, two := newKey("Bot"), newKey("bot")
	chain := newKey("").ID
	var records []store.AuditRecord
	for _, batch := range [][]store.AuditRecord{
		append(used(one, 0, 150), used(two, 3, 150)...), append(used(one, 1100, 3), auditAt(two, store.AuditDenied, 1)),
	} {
		must(t, s.AppendAudit(t.Context(), chain, batch, sealer{}))
		records = append(records, batch...)
		if err := s.AppendAudit(t.Context(), chain, batch, sealer{}); !errors.Is(err, store.ErrConflict) {
			t.Errorf("the same again: %v, want ErrConflict", err)
		}
	}
	for _, seq := range []int64{0, 1, 63, 64, 65, 149, 150, 303, 304} {
		for _, limit := range []int{1, 2, 64, 65, 100, 1000} {
			links, err := s.AuditLinks(t.Context(), chain, seq, limit)
			must(t, err)
			want := records[seq:min(len(records), int(seq)+limit)]
			if !slices.EqualFunc(want, links, func(a, b store.AuditRecord) bool { return a.ID == b.ID }) {
				t.Fatalf("%d behind %d: %d records, want %d", limit, seq, len(links), len(want))
			}
			if limit < 1000 || seq > 0 { // to compare them all takes long
				continue
			}
			if diff := cmp.Diff(want, links); diff != "" {
				t.Fatalf("%d behind %d: %s", limit, seq, diff)
			}
		}
	}
	slices.SortFunc(records, func(a, b store.AuditRecord) int { return strings.Compare(string(b.ID[:]), string(a.ID[:])) })
	if diff := cmp.Diff(records[:200], audit(t, s, store.AuditQuery{Limit: 200}).Records); diff != "" {
		t.Error(diff)
	}
	times := []time.Time{{}, epoch.Add(time.Millisecond), records[250].At, records[100].At, records[99].At.Add(time.Nanosecond)}
	for n, filter := range []store.AuditQuery{
		{}, {Key: one.ID}, {Label: "BOT"}, {Event: store.AuditUsed}, {Actor: two.ID.String()}, {Key: two.ID, Event: store.AuditDenied}, {Label: "x"},
	} {
		for i, since := range times {
			for _, until := range times {
				query := filter
				query.Limit, query.Since, query.Until = 21+(n+i)%4*40, since, until
				auditPages(t, s, records, query)
			}
		}
	}
	auditPages(t, s, records, store.AuditQuery{Limit: 1, Since: records[100].At, Label: "BOT"})
}

func auditPruningTogether(t *testing.T, b *Backend) {
	s := migrated(t, b)
	chain := newKey("").ID
	records := used(newKey("x"), 0, 100)
	must(t, s.AppendAudit(t.Context(), chain, records, sealer{}))
	// Those of the next second may stay as long as the youngest of them.
	for _, step := range []struct {
		before time.Duration
		limit  int
	}{{0, 1000}, {400 * time.Millisecond, 1000}, {2 * time.Second, 1}, {2 * time.Second, 1000}} {
		n, err := s.PruneAudit(t.Context(), epoch.Add(step.before), step.limit, sealer{})
		must(t, err)
		gone := len(records) - audit(t, s, store.AuditQuery{}).Total
		if chains, err := s.AuditChains(t.Context()); err != nil || n > 0 && chains[0].Anchor.Seq != int64(gone) {
			t.Errorf("%+v: %d are gone, and the anchor is %+v, %v", step, gone, chains[0].Anchor, err)
		}
		links, err := s.AuditLinks(t.Context(), chain, int64(gone), 1000)
		must(t, err)
		if diff := cmp.Diff(records[gone:], links); diff != "" && gone < len(records) {
			t.Errorf("%+v: %s", step, diff)
		}
		switch {
		case step.before == 0 && gone != 0, step.before == 2*time.Second && gone == 0, step.limit == 1000 && step.before == 2*time.Second && gone != 100:
			t.Errorf("%+v: %d are gone", step, gone)
		}
	}
}

// auditDamage changes what a store keeps beside the record that it would find by a query.
func auditDamage(t *testing.T, b *Backend) {
	for _, damage := range []string{"earlier = mac", "earlier = NULL", "records = records + 1", "first_id = id", "first_id = NULL"} {
		s := migrated(t, b)
		chain := newKey("").ID
		must(t, s.AppendAudit(t.Context(), chain, used(newKey("x"), 0, 10), sealer{}))
		b.Exec(t, "UPDATE "+b.Schema+"audit_log SET "+damage+" WHERE chain = '"+chain.String()+"'")
		links, err := s.AuditLinks(t.Context(), chain, 0, 100)
		must(t, err)
		if len(links) != 1 || links[0].Link.Seq != 10 || links[0].Link.MAC != nil {
			t.Errorf("%s: %d records, the first %+v", damage, len(links), links[0].Link)
		}
	}
}
