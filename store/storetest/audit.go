package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// sealer numbers records and signs with the number: what a chain is made of is
// none of a store's business.
type sealer struct{}

func (sealer) Seal(chain store.ID, head store.AuditMark, records []store.AuditRecord) store.AuditMark {
	for i := range records {
		head.Seq++
		head.MAC = fmt.Appendf(nil, "%s|%d", head.MAC, head.Seq)
		records[i].Link = store.AuditLink{Chain: chain, Seq: head.Seq, MAC: head.MAC}
	}
	head.Signature = []byte("head")
	return head
}

func (sealer) Anchor(link store.AuditLink) store.AuditMark {
	return store.AuditMark{Seq: link.Seq, MAC: link.MAC, Signature: []byte("anchor")}
}

// recorded is a write with a record of this event.
func recorded(event store.AuditEvent, by store.Sealer) *store.Write {
	return &store.Write{Sealer: by, Record: func(key *store.Key) store.AuditRecord {
		return store.AuditRecord{
			Event: event, At: time.Now(), Actor: store.AuditActor{Type: store.ActorCLI, ID: "cli"},
			Key: store.AuditKey{ID: key.ID, Label: key.Label},
		}
	}}
}

// auditAt is a record of a key's use at a number of seconds after the epoch.
func auditAt(key *store.Key, event store.AuditEvent, seconds int) store.AuditRecord {
	return store.AuditRecord{
		Event: event, At: epoch.Add(time.Duration(seconds) * time.Second),
		Actor: store.AuditActor{Type: store.ActorKey, ID: key.ID.String(), Label: key.Label},
		Key:   store.AuditKey{ID: key.ID, Label: key.Label},
		Request: store.AuditRequest{
			ID: "r1", Method: "POST", Path: "/v1/%C3%A9", Status: 201, ClientIP: "2001:db8::1",
		},
		Details: json.RawMessage(`{"b": 1,  "a":"é"}`),
	}.Clean()
}

func audit(t *testing.T, s store.Store, query store.AuditQuery) *store.AuditPage {
	t.Helper()
	if query.Limit == 0 {
		query.Limit = 100
	}
	page, err := s.Audit(t.Context(), &query)
	must(t, err)
	return page
}

func testAudit(t *testing.T, fresh func(tb testing.TB) *Backend) {
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"a record comes back as it was":                     auditComesBack,
		"a change and its record are one":                   auditIsPartOfTheChange,
		"what plain SQL deletes is recorded":                auditOfSQL,
		"a chain goes on from its last record":              auditChains,
		"the chain of a refused write stays as it was":      auditOfARefusedWrite,
		"records that are there already are a conflict":     auditConflict,
		"unsealed records are sealed, but not everybody's":  auditSealing,
		"old records go, from the beginning and no further": auditPruning,
		"the label of a key that is gone":                   auditLabels,
		"a place in the chain is not taken twice":           auditSetBack,
		"filters keep what they say, page by page":          auditFilters,
		"many records of a key are one by one":              auditOfOneKey,
		"many records of a key go together, when all may":   auditPruningTogether,
		"what somebody has damaged is not sealed":           auditDamage,
		"a text that no record can have is not looked for":  auditOddFilters,
		"a chain is written by several processes at a time": auditTogether,
	})
}

func auditComesBack(t *testing.T, b *Backend) {
	s := migrated(t, b)
	key := newKey("é")
	full := auditAt(key, store.AuditUsed, 1)
	bare := store.AuditRecord{Event: store.AuditGap, At: epoch, Actor: store.AuditActor{Type: store.ActorServer, ID: "x"}}.Clean()
	records := []store.AuditRecord{bare, full}
	must(t, s.AppendAudit(t.Context(), newKey("").ID, records, sealer{}))
	page := audit(t, s, store.AuditQuery{})
	if diff := cmp.Diff([]store.AuditRecord{records[1], records[0]}, page.Records); diff != "" {
		t.Error(diff)
	}
	if page.Total != 2 || page.More || page.Next != (store.ID{}) {
		t.Errorf("page = %+v", page)
	}
}

func auditIsPartOfTheChange(t *testing.T, b *Backend) {
	s := migrated(t, b)
	key := newKey("a")
	must(t, s.CreateKey(t.Context(), key, recorded(store.AuditCreated, sealer{})))
	if err := s.CreateKey(t.Context(), key, recorded(store.AuditCreated, sealer{})); !errors.Is(err, store.ErrConflict) {
		t.Errorf("CreateKey = %v, want ErrConflict", err)
	}
	_, err := s.DeleteKey(t.Context(), key.ID, recorded(store.AuditRevoked, sealer{}))
	must(t, err)
	if _, err := s.DeleteKey(t.Context(), key.ID, recorded(store.AuditRevoked, sealer{})); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("DeleteKey = %v, want ErrNotFound", err)
	}
	events(t, s, store.AuditRevoked, store.AuditCreated)
	if r := audit(t, s, store.AuditQuery{}).Records[0]; r.Key.Label != "a" || r.Link.Seq != 2 || r.Link.Chain != store.SharedChain {
		t.Errorf("got %+v", r)
	}
}

// events are all events of the log, the newest first.
func events(t *testing.T, s store.Store, want ...store.AuditEvent) {
	t.Helper()
	var got []store.AuditEvent
	for _, r := range audit(t, s, store.AuditQuery{}).Records {
		got = append(got, r.Event)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the log is %v, want %v", got, want)
	}
}

func auditOfSQL(t *testing.T, b *Backend) {
	s := migrated(t, b)
	keys := create(t, s, newKey("one"), newKey("two"), newKey("three"))
	_, err := s.DeleteKey(t.Context(), keys[0].ID, recorded(store.AuditRevoked, nil))
	must(t, err)
	before := time.Now().Add(-time.Minute)
	b.Exec(t, "DELETE FROM system_keys WHERE label <> 'one'")
	page := audit(t, s, store.AuditQuery{Actor: "sql"})
	var labels []string
	for _, r := range page.Records {
		labels = append(labels, r.Key.Label)
		if r.Actor.Type != store.ActorSQL || r.Event != store.AuditRevoked || r.At.Before(before) || r.At.After(time.Now().Add(time.Minute)) {
			t.Errorf("got %+v", r)
		}
		floor := store.AuditFloor(r.At)
		if id := r.ID; string(id[:6]) != string(floor[:6]) || id[6]>>4 != 7 || id[8]>>6 != 2 {
			t.Errorf("id %s of %v is not a UUIDv7 of that time, %s", id, r.At, floor)
		}
	}
	slices.Sort(labels)
	if !slices.Equal(labels, []string{"three", "two"}) {
		t.Errorf("recorded are %v", labels)
	}
}

func auditChains(t *testing.T, b *Backend) {
	s := migrated(t, b)
	one, two := newKey("").ID, newKey("").ID
	for i := range 3 {
		must(t, s.AppendAudit(t.Context(), one, []store.AuditRecord{auditAt(newKey("x"), store.AuditUsed, i)}, sealer{}))
	}
	must(t, s.AppendAudit(t.Context(), two, []store.AuditRecord{auditAt(newKey("x"), store.AuditUsed, 9)}, sealer{}))
	chains, err := s.AuditChains(t.Context())
	must(t, err)
	if len(chains) != 2 {
		t.Fatalf("there are %d chains", len(chains))
	}
	records, err := s.AuditLinks(t.Context(), one, 1, 10)
	must(t, err)
	if len(records) != 2 || records[0].Link.Seq != 2 || string(records[1].Link.MAC) != "|1|2|3" {
		t.Errorf("links = %+v", records)
	}
	for _, chain := range chains {
		if chain.ID == one && (chain.Head.Seq != 3 || string(chain.Head.MAC) != "|1|2|3" || string(chain.Head.Signature) != "head") {
			t.Errorf("head = %+v", chain.Head)
		}
	}
}

func auditOfARefusedWrite(t *testing.T, b *Backend) {
	s := migrated(t, b)
	write := recorded(store.AuditCreated, sealer{})
	must(t, s.CreateKey(t.Context(), newKey("a"), write))
	write.Acting = &store.Acting{ID: newKey("gone").ID, Allow: yes}
	if err := s.CreateKey(t.Context(), newKey("b"), write); !errors.Is(err, store.ErrActorGone) {
		t.Errorf("CreateKey = %v", err)
	}
	events(t, s, store.AuditCreated)
	chains, err := s.AuditChains(t.Context())
	must(t, err)
	if chains[0].Head.Seq != 1 {
		t.Errorf("head = %+v", chains[0].Head)
	}
}

func auditConflict(t *testing.T, b *Backend) {
	s := migrated(t, b)
	records := []store.AuditRecord{auditAt(newKey("x"), store.AuditUsed, 1), auditAt(newKey("x"), store.AuditUsed, 2)}
	chain := newKey("").ID
	must(t, s.AppendAudit(t.Context(), chain, records, sealer{}))
	if err := s.AppendAudit(t.Context(), chain, records, sealer{}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("AppendAudit = %v, want ErrConflict", err)
	}
	events(t, s, store.AuditUsed, store.AuditUsed)
}

func auditSetBack(t *testing.T, b *Backend) {
	s := migrated(t, b)
	must(t, s.CreateKey(t.Context(), newKey("a"), recorded(store.AuditCreated, sealer{})))
	must(t, s.CreateKey(t.Context(), newKey("b"), recorded(store.AuditCreated, sealer{})))
	b.Exec(t, "DELETE FROM "+b.Schema+"audit_chain")
	must(t, s.CreateKey(t.Context(), newKey("c"), recorded(store.AuditCreated, sealer{})))
	if r := audit(t, s, store.AuditQuery{}).Records[0]; r.Link.Seq != 3 || string(r.Link.MAC) != "|1|2|3" {
		t.Errorf("link = %+v", r.Link)
	}
}

func auditSealing(t *testing.T, b *Backend) {
	s := migrated(t, b)
	must(t, s.CreateKey(t.Context(), newKey("cli"), recorded(store.AuditCreated, nil)))
	create(t, s, newKey("sql"))
	b.Exec(t, "DELETE FROM system_keys WHERE label = 'sql'")
	must(t, s.AppendAudit(t.Context(), store.ID{}, []store.AuditRecord{auditAt(newKey("forged"), store.AuditUsed, 1)}, nil))
	unsealed := func(all, foreign int) {
		t.Helper()
		gotAll, gotForeign, err := s.AuditUnsealed(t.Context())
		if err != nil || gotAll != all || gotForeign != foreign {
			t.Errorf("AuditUnsealed = %d, %d, %v; want %d, %d", gotAll, gotForeign, err, all, foreign)
		}
	}
	unsealed(3, 1)
	for _, want := range []int{1, 1, 0} {
		if n, err := s.SealAudit(t.Context(), 1, sealer{}); n != want || err != nil {
			t.Errorf("SealAudit = %d, %v; want %d", n, err, want)
		}
	}
	unsealed(1, 1)
	records, err := s.AuditLinks(t.Context(), store.SharedChain, 0, 10)
	must(t, err)
	if len(records) != 2 || records[0].Key.Label != "cli" || records[1].Key.Label != "sql" {
		t.Errorf("sealed are %+v", records)
	}
}

func auditPruning(t *testing.T, b *Backend) {
	s := migrated(t, b)
	chain := newKey("").ID
	// The clock was set back between the third and the fourth.
	for _, at := range []int{1, 2, 5, 3, 9} {
		must(t, s.AppendAudit(t.Context(), chain, []store.AuditRecord{auditAt(newKey("x"), store.AuditUsed, at)}, sealer{}))
	}
	for _, step := range []struct{ before, limit, removed, left int }{
		{1, 10, 0, 5}, {4, 1, 1, 4}, {4, 10, 1, 3}, {6, 10, 2, 1}, {6, 10, 0, 1}, {99, 10, 1, 0},
	} {
		n, err := s.PruneAudit(t.Context(), epoch.Add(time.Duration(step.before)*time.Second), step.limit, sealer{})
		must(t, err)
		if page := audit(t, s, store.AuditQuery{}); n != step.removed || page.Total != step.left {
			t.Errorf("before %d: %d removed and %d left, want %d and %d", step.before, n, page.Total, step.removed, step.left)
		}
	}
	chains, err := s.AuditChains(t.Context())
	must(t, err)
	if a := chains[0].Anchor; a.Seq != 5 || string(a.MAC) != "|1|2|3|4|5" || string(a.Signature) != "anchor" {
		t.Errorf("anchor = %+v", a)
	}
	// It goes on where it was.
	must(t, s.AppendAudit(t.Context(), chain, []store.AuditRecord{auditAt(newKey("x"), store.AuditUsed, 10)}, sealer{}))
	if r := audit(t, s, store.AuditQuery{}).Records[0]; r.Link.Seq != 6 {
		t.Errorf("link = %+v", r.Link)
	}
}

func auditLabels(t *testing.T, b *Backend) {
	s := migrated(t, b)
	key := create(t, s, newKey("was"))[0]
	for _, state := range []string{"there", "deleted"} {
		if label, err := s.AuditLabel(t.Context(), key.ID); label != "was" || err != nil {
			t.Errorf("AuditLabel of a key that is %s = %q, %v", state, label, err)
		}
		_, _ = s.DeleteKey(t.Context(), key.ID, recorded(store.AuditRevoked, nil))
	}
	if label, err := s.AuditLabel(t.Context(), newID()); label != "" || err != nil {
		t.Errorf("AuditLabel of a key that nobody knows = %q, %v", label, err)
	}
}

func auditOddFilters(t *testing.T, b *Backend) {
	s := migrated(t, b)
	must(t, s.AppendAudit(t.Context(), newKey("").ID, []store.AuditRecord{auditAt(newKey("x"), store.AuditUsed, 1)}, sealer{}))
	for _, q := range []store.AuditQuery{
		{Label: "\x00"},
		{Label: "\xff"},
		{Actor: "a\x00b"},
		{Label: strings.Repeat("x", 1000)},
		{Since: epoch, Until: epoch},
		{Until: time.Unix(-1, 0)},
		{Since: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if page := audit(t, s, q); page.Total != 0 || len(page.Records) != 0 {
			t.Errorf("%+v keeps %d", q, page.Total)
		}
	}
	for _, limit := range []int{0, -1, store.MaxAuditLimit + 1} {
		if _, err := s.Audit(t.Context(), &store.AuditQuery{Limit: limit}); err == nil {
			t.Errorf("limit %d is taken", limit)
		}
	}
}

func auditTogether(t *testing.T, b *Backend) {
	const writers, each = 4, 10
	done := make(chan error, writers)
	for range writers {
		s := migrated(t, b)
		go func() {
			var err error
			for range each {
				err = errors.Join(err, s.CreateKey(t.Context(), newKey("x"), recorded(store.AuditCreated, sealer{})))
			}
			done <- err
		}()
	}
	for range writers {
		must(t, <-done)
	}
	records, err := migrated(t, b).AuditLinks(t.Context(), store.SharedChain, 0, 1000)
	must(t, err)
	if len(records) != writers*each {
		t.Fatalf("%d records", len(records))
	}
	mac := ""
	for i, r := range records {
		if mac = fmt.Sprintf("%s|%d", mac, i+1); r.Link.Seq != int64(i+1) || string(r.Link.MAC) != mac {
			t.Fatalf("record %d is %+v", i, r.Link)
		}
	}
}
