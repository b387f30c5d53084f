package storetest

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Networks of the documentation (RFC 5737, RFC 3849).
var (
	network1 = netip.MustParsePrefix("192.0.2.0/24")
	network2 = netip.MustParsePrefix("198.51.100.0/24")
	network3 = netip.MustParsePrefix("2001:db8:7::/48")
)

// usedFrom is an entry for uses from a network at this time.
func usedFrom(id store.ID, at time.Time, from netip.Prefix, requests int64) store.Use {
	return store.Use{
		ID: id, At: at,
		Days:     []store.DayUse{{Day: store.DayOf(at), Requests: requests}},
		Networks: []store.NetworkUse{{Network: from, FirstAt: at, LastAt: at, Requests: requests}},
	}
}

// activity checks what is kept of a key.
func activity(tb testing.TB, s store.Store, id store.ID, want *store.Activity) {
	tb.Helper()
	got, err := s.Activity(tb.Context(), id)
	must(tb, err)
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		tb.Errorf("activity differs (-want +got):\n%s", diff)
	}
}

// activityTables are those of which each key that is used has rows.
var activityTables = []string{"key_activity", "key_day", "key_network", "key_asked"}

// count checks how many rows a table has. The label of a key brings the number out, in the
// SQL of every dialect.
func count(tb testing.TB, b *Backend, s store.Store, table string, want int) {
	tb.Helper()
	probe := create(tb, s, newKey("probe"))[0]
	b.Exec(tb, "UPDATE system_keys SET label = CAST((SELECT count(*) FROM "+b.Schema+table+") AS text) WHERE label = 'probe'")
	if got := read(tb, s, probe.ID).Label; got != fmt.Sprint(want) {
		tb.Errorf("%s has %s rows, want %d", table, got, want)
	}
	_, err := s.DeleteKey(tb.Context(), probe.ID, nil)
	must(tb, err)
}

func testActivity(t *testing.T, fresh func(tb testing.TB) *Backend) {
	today := time.Now().UTC().Truncate(24 * time.Hour).Add(time.Microsecond)
	yesterday := today.Add(-24 * time.Hour)
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"increments add up, and times widen": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := create(t, s, newKey("used"), newKey("untouched"))
			id := keys[0].ID
			first := usedFrom(id, yesterday, network1, 3)
			first.Asked = []store.AskedPermission{{Permission: "b:read", LastAt: yesterday}, {Permission: "a:read", LastAt: today}}
			second := usedFrom(id, today, network1, 4)
			second.Days[0].Denied = 2
			second.Asked = []store.AskedPermission{{Permission: "b:read", LastAt: today}, {Permission: "a:read", LastAt: yesterday}}
			must(t, s.RecordUse(t.Context(), []store.Use{first, second, usedFrom(id, today, network3, 1)}))
			must(t, s.RecordUse(t.Context(), []store.Use{usedFrom(id, yesterday.Add(-time.Second), network1, 10)}))
			activity(t, s, id, &store.Activity{
				FirstUsedAt: yesterday.Add(-time.Second), LastUsedAt: today,
				Days: []store.DayUse{
					{Day: store.DayOf(yesterday) - 1, Requests: 10},
					{Day: store.DayOf(yesterday), Requests: 3},
					{Day: store.DayOf(today), Requests: 5, Denied: 2},
				},
				Networks: []store.NetworkUse{
					{Network: network1, FirstAt: yesterday.Add(-time.Second), LastAt: today, Requests: 17},
					{Network: network3, FirstAt: today, LastAt: today, Requests: 1},
				},
				Asked: []store.AskedPermission{{Permission: "a:read", LastAt: today}, {Permission: "b:read", LastAt: today}},
			})
			activity(t, s, keys[1].ID, new(store.Activity))
		},
		"increments of several instances add up": func(t *testing.T, b *Backend) {
			instances := []store.Store{migrated(t, b), migrated(t, b), migrated(t, b)}
			keys := create(t, instances[0], newKey("a"), newKey("b"))
			const rounds = 20
			var group errgroup.Group
			for i, s := range instances {
				group.Go(func() error {
					for n := range rounds {
						// In either order, which would be a deadlock if the store kept to it.
						both := []store.Use{usedFrom(keys[(i+n)%2].ID, today, network1, 1), usedFrom(keys[(i+n+1)%2].ID, today, network2, 2)}
						if err := s.RecordUse(t.Context(), both); err != nil {
							return err
						}
					}
					return nil
				})
			}
			must(t, group.Wait())
			for _, key := range keys {
				got, err := instances[0].Activity(t.Context(), key.ID)
				must(t, err)
				if len(got.Days) != 1 || got.Days[0].Requests != rounds*3*3/2 || len(got.Networks) != 2 ||
					got.Networks[0].Requests+got.Networks[1].Requests != got.Days[0].Requests {
					t.Errorf("got %+v", got)
				}
			}
		},
		"who sees the requests of a day sees that there was a use": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			for range 50 {
				key := create(t, s, newKey("used now"))[0]
				var group errgroup.Group
				group.Go(func() error {
					return s.RecordUse(t.Context(), []store.Use{{
						ID: key.ID, First: today, At: today, Days: []store.DayUse{{Day: store.DayOf(today), Requests: 1}},
					}})
				})
				for began := time.Now(); ; {
					got, err := s.Activity(t.Context(), key.ID)
					must(t, err)
					if len(got.Days) == 0 && time.Since(began) < time.Minute {
						continue
					}
					if got.FirstUsedAt.IsZero() || got.LastUsedAt.IsZero() {
						t.Errorf("got %+v", got)
					}
					break
				}
				must(t, group.Wait())
			}
		},
		"refusals alone are no use": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := create(t, s, newKey("refused"))[0]
			must(t, s.RecordUse(t.Context(), []store.Use{{ID: key.ID, Days: []store.DayUse{{Day: store.DayOf(today), Requests: 2, Denied: 2}}}}))
			activity(t, s, key.ID, &store.Activity{Days: []store.DayUse{{Day: store.DayOf(today), Requests: 2, Denied: 2}}})
			same(t, read(t, s, key.ID), key)
		},
		"ninety days are kept, sixteen networks shown, and 256 permissions": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := create(t, s, newKey("old"))[0]
			for i := range 3 {
				use := store.Use{ID: key.ID, At: today}
				for d := range 40 {
					use.Days = append(use.Days, store.DayUse{Day: store.DayOf(today) - store.Day(40*i+d), Requests: 1})
				}
				for n := range 100 {
					at := today.Add(-time.Duration(100*i+n) * time.Second)
					use.Networks = append(use.Networks, store.NetworkUse{
						Network: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), byte(n), 0}), 24), FirstAt: at, LastAt: at, Requests: 1,
					})
					use.Asked = append(use.Asked, store.AskedPermission{Permission: fmt.Sprintf("r:a%03d", 100*i+n), LastAt: at})
				}
				must(t, s.RecordUse(t.Context(), []store.Use{use}))
			}
			got, err := s.Activity(t.Context(), key.ID)
			must(t, err)
			if len(got.Days) != store.ActivityDays || got.Days[0].Day != store.DayOf(today)-store.ActivityDays+1 {
				t.Errorf("%d days from %v", len(got.Days), got.Days[0].Day)
			}
			if len(got.Networks) != store.ActivityNetworks || got.Networks[15].Network.String() != "10.0.15.0/24" {
				t.Errorf("%d networks to %v", len(got.Networks), got.Networks[15])
			}
			if len(got.Asked) != store.MaxActivity || got.Asked[255].Permission != "r:a255" {
				t.Errorf("%d permissions", len(got.Asked))
			}
			// More is not kept: a clock set back would show it.
			count(t, b, s, "key_day", store.ActivityDays)
			count(t, b, s, "key_network", store.MaxActivity)
		},
		"a key that was used before has that as its first use": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := newKey("veteran")
			key.LastUsedAt = yesterday
			create(t, s, key)
			activity(t, s, key.ID, &store.Activity{LastUsedAt: yesterday})
			must(t, s.RecordUse(t.Context(), []store.Use{{ID: key.ID, First: today, At: today.Add(time.Second)}}))
			activity(t, s, key.ID, &store.Activity{FirstUsedAt: yesterday, LastUsedAt: today.Add(time.Second)})
		},
		"times ahead of the store's clock are cut": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			key := create(t, s, newKey("fast clock"))[0]
			far := time.Now().Add(1000 * time.Hour)
			use := usedFrom(key.ID, far, network1, 1)
			use.Asked = []store.AskedPermission{{Permission: "a:read", LastAt: far}}
			must(t, s.RecordUse(t.Context(), []store.Use{use}))
			got, err := s.Activity(t.Context(), key.ID)
			must(t, err)
			latest := time.Now().Add(time.Minute)
			if got.FirstUsedAt.After(latest) || got.Days[0].Day > store.DayOf(latest) || got.Networks[0].LastAt.After(latest) ||
				got.Networks[0].FirstAt.After(latest) || got.Asked[0].LastAt.After(latest) {
				t.Errorf("got %+v", got)
			}
		},
		"a key that is gone has no activity, whoever ends it": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			for name, end := range map[string]func(key *store.Key){
				"deleted": func(key *store.Key) { _, err := s.DeleteKey(t.Context(), key.ID, nil); must(t, err) },
				"many": func(key *store.Key) {
					_, err := s.DeleteKeys(t.Context(), &store.KeyFilter{LabelPrefix: key.Label}, nil)
					must(t, err)
				},
				"by SQL": func(key *store.Key) { b.Exec(t, "DELETE FROM system_keys WHERE label = '"+key.Label+"'") },
				"another id": func(key *store.Key) {
					b.Exec(t, fmt.Sprintf("UPDATE system_keys SET id = '%s' WHERE label = '%s'", newID(), key.Label))
				},
			} {
				keys := create(t, s, newKey(name), newKey("bystander"))
				for _, key := range keys {
					use := usedFrom(key.ID, today, network1, 1)
					use.Asked = []store.AskedPermission{{Permission: "a:read", LastAt: today}}
					must(t, s.RecordUse(t.Context(), []store.Use{use}))
				}
				end(keys[0])
				if _, err := s.Activity(t.Context(), keys[0].ID); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("%s: %v, want ErrNotFound", name, err)
				}
				must(t, s.RecordUse(t.Context(), []store.Use{usedFrom(keys[0].ID, today, network1, 1)}))
				for _, table := range activityTables {
					count(t, b, s, table, 1)
				}
				_, err := s.DeleteKey(t.Context(), keys[1].ID, nil)
				must(t, err)
			}
		},
		"what was asked of many keys is read at once": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := create(t, s, newKey("a"), newKey("b"), newKey("c"))
			for _, key := range keys[:2] {
				must(t, s.RecordUse(t.Context(), []store.Use{{
					ID: key.ID, Asked: []store.AskedPermission{{Permission: key.Label + ":read", LastAt: today}},
				}}))
			}
			got, err := s.Asked(t.Context(), []store.ID{keys[0].ID, keys[2].ID})
			must(t, err)
			if diff := cmp.Diff(map[store.ID][]string{keys[0].ID: {"a:read"}}, got); diff != "" {
				t.Error(diff)
			}
			got, err = s.Asked(t.Context(), nil)
			must(t, err)
			if len(got) != 0 {
				t.Errorf("of no key: %v", got)
			}
		},
	})
}

// newNetwork is the record of a report.
func newNetwork(n *store.NetworkReport) store.AuditRecord {
	return store.AuditRecord{
		Event: store.AuditNewNetwork, At: time.Now(), Actor: store.AuditActor{Type: store.ActorKey, ID: n.Key.ID.String()}, Key: n.Key,
		Details: fmt.Appendf(nil, `{"network":"%s","count":%d}`, n.Newest, n.Count),
	}
}

func testNewNetworks(t *testing.T, fresh func(tb testing.TB) *Backend) {
	at := time.Now().UTC().Truncate(time.Microsecond).Add(-time.Hour)
	const month = 30 * 24 * time.Hour
	// reports writes uses one after the other, and returns the details of the records, the
	// oldest first.
	reports := func(t *testing.T, b *Backend, s store.Store, batches ...[]store.Use) (details []string) {
		t.Helper()
		for _, batch := range batches {
			must(t, s.RecordUse(t.Context(), batch))
			must(t, s.ReportNetworks(t.Context(), newNetwork, sealer{}))
		}
		page, err := s.Audit(t.Context(), &store.AuditQuery{Limit: 100, Event: store.AuditNewNetwork})
		must(t, err)
		for _, r := range page.Records {
			details = append([]string{r.Key.Label + " " + string(r.Details)}, details...)
		}
		return details
	}
	check := func(t *testing.T, got []string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("reports differ (-want +got):\n%s", diff)
		}
	}
	for name, test := range map[string]struct {
		batches func(id store.ID) [][]store.Use
		want    []string
	}{
		"the very first network is not new": {func(id store.ID) [][]store.Use {
			return [][]store.Use{{usedFrom(id, at, network1, 1)}, {usedFrom(id, at.Add(time.Second), network1, 1)}}
		}, nil},
		"the second is, also in the same batch": {func(id store.ID) [][]store.Use {
			return [][]store.Use{{usedFrom(id, at.Add(time.Second), network2, 1), usedFrom(id, at, network1, 1)}}
		}, []string{`key {"network":"198.51.100.0/24","count":1}`}},
		"within an hour the others wait": {func(id store.ID) [][]store.Use {
			return [][]store.Use{{usedFrom(id, at, network1, 1)}, {usedFrom(id, at, network2, 1)}, {usedFrom(id, at, network3, 1)}}
		}, []string{`key {"network":"198.51.100.0/24","count":1}`}},
		"several are one record": {func(id store.ID) [][]store.Use {
			return [][]store.Use{{usedFrom(id, at, network1, 1)}, {usedFrom(id, at, network2, 1), usedFrom(id, at.Add(time.Second), network3, 1)}}
		}, []string{`key {"network":"2001:db8:7::/48","count":2}`}},
		"after thirty days it is new again": {func(id store.ID) [][]store.Use {
			return [][]store.Use{
				{usedFrom(id, at.Add(-month-time.Second), network1, 1)}, {usedFrom(id, at, network1, 1)}, {usedFrom(id, at.Add(time.Second), network1, 1)},
			}
		}, []string{`key {"network":"192.0.2.0/24","count":1}`}},
		"and not before": {func(id store.ID) [][]store.Use {
			return [][]store.Use{{usedFrom(id, at.Add(-month), network1, 1)}, {usedFrom(id, at, network1, 1)}}
		}, nil},
		"of too many networks nothing is said": {func(id store.ID) [][]store.Use {
			var batch []store.Use
			for i := range store.MaxActivity {
				batch = append(batch, usedFrom(id, at, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24), 1))
			}
			return [][]store.Use{batch}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := fresh(t)
			s := migrated(t, b)
			id := create(t, s, newKey("key"))[0].ID
			check(t, reports(t, b, s, test.batches(id)...), test.want...)
		})
	}
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"what has waited is reported an hour later, whichever key is used": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := create(t, s, newKey("key"), newKey("other"))
			id := keys[0].ID
			check(t, reports(t, b, s, []store.Use{usedFrom(id, at, network1, 1)}, []store.Use{usedFrom(id, at, network2, 1)},
				[]store.Use{usedFrom(id, at.Add(time.Second), network3, 1)}), `key {"network":"198.51.100.0/24","count":1}`)
			b.Exec(t, "UPDATE "+b.Schema+"key_activity SET reported_at = NULL") // as if an hour had passed
			check(t, reports(t, b, s, []store.Use{usedFrom(keys[1].ID, at, network1, 1)}),
				`key {"network":"198.51.100.0/24","count":1}`, `key {"network":"2001:db8:7::/48","count":1}`)
		},
		"of several instances one reports": func(t *testing.T, b *Backend) {
			instances := []store.Store{migrated(t, b), migrated(t, b), migrated(t, b)}
			id := create(t, instances[0], newKey("key"))[0].ID
			must(t, instances[0].RecordUse(t.Context(), []store.Use{usedFrom(id, at, network1, 1), usedFrom(id, at.Add(1), network2, 1)}))
			var group errgroup.Group
			for _, s := range instances {
				group.Go(func() error { return s.ReportNetworks(t.Context(), newNetwork, sealer{}) })
			}
			must(t, group.Wait())
			check(t, reports(t, b, instances[0]), `key {"network":"198.51.100.0/24","count":1}`)
		},
	})
}
