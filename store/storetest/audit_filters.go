package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// auditFilters asks every combination of some filters, in pages of several
// sizes, and compares with what a loop over all records finds.
func auditFilters(t *testing.T, b *Backend) {
	s := migrated(t, b)
	var records []store.AuditRecord
	keys := []*store.Key{newKey("Bot"), newKey("bot"), newKey("É")}
	for i := range 60 {
		r := auditAt(keys[i%3], store.AuditEvents[i%4], i/2)
		if r.Event == store.AuditCreated {
			r.Actor = store.AuditActor{Type: store.ActorUser, ID: "alice"}
		}
		records = append(records, r)
	}
	must(t, s.AppendAudit(t.Context(), newKey("").ID, records, sealer{}))
	slices.SortFunc(records, func(a, b store.AuditRecord) int { return strings.Compare(string(b.ID[:]), string(a.ID[:])) })

	times := []time.Time{{}, epoch.Add(10 * time.Second), epoch.Add(20*time.Second + time.Nanosecond)}
	n := 0
	for _, key := range []store.ID{{}, keys[0].ID} {
		for _, label := range []string{"", "BOT", "É", "bo"} {
			for _, event := range []store.AuditEvent{"", store.AuditCreated, store.AuditUsed} {
				for _, actor := range []string{"", "alice", keys[0].ID.String()} {
					for _, since := range times {
						for _, until := range times {
							n++
							auditPages(t, s, records, store.AuditQuery{
								Limit: 1 + n%7*5, Key: key, Label: label, Event: event, Actor: actor, Since: since, Until: until,
							})
						}
					}
				}
			}
		}
	}
}

func auditPages(t *testing.T, s store.Store, records []store.AuditRecord, query store.AuditQuery) {
	t.Helper()
	var want []store.ID
	for i := range records {
		if r := &records[i]; kept(&query, r) {
			want = append(want, r.ID)
		}
	}
	var got []store.ID
	asked := query
	for {
		page := audit(t, s, asked)
		if page.Total != len(want) || len(page.Records) > query.Limit {
			t.Fatalf("%+v: total %d, want %d; %d on a page", asked, page.Total, len(want), len(page.Records))
		}
		for i := range page.Records {
			got = append(got, page.Records[i].ID)
		}
		if page.Next == (store.ID{}) {
			break
		}
		asked.Before = page.Next
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%+v keeps %d records, want %d", query, len(got), len(want))
	}
}

func kept(q *store.AuditQuery, r *store.AuditRecord) bool {
	// The fixture has nothing outside ASCII that differs in case alone.
	return (q.Key == store.ID{} || r.Key.ID == q.Key) &&
		(q.Label == "" || strings.EqualFold(q.Label, r.Key.Label)) &&
		(q.Event == "" || q.Event == r.Event) &&
		(q.Actor == "" || q.Actor == r.Actor.ID) &&
		(q.Since.IsZero() || !r.At.Before(q.Since)) &&
		(q.Until.IsZero() || r.At.Before(q.Until))
}
