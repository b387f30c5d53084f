package storetest

import (
	"errors"
	"flag"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Every operation is a commit that a disk has to confirm, so the default is less
// than rapid's own 100. The command line has the last word.
func init() { _ = flag.Set("rapid.checks", "25") }

// model is a store in memory, as simple as it can be.
type model map[store.ID]*store.Key

// keys are the model's keys in an order that rapid can draw from.
func (m model) keys() []*store.Key {
	return slices.SortedFunc(maps.Values(m), func(a, b *store.Key) int { return compare(store.SortLabel, a, b) })
}

// draw picks an id, mostly of a key that is there.
func (m model) draw(t *rapid.T) store.ID {
	if keys := m.keys(); len(keys) > 0 && rapid.IntRange(0, 9).Draw(t, "known") > 0 {
		return rapid.SampledFrom(keys).Draw(t, "key").ID
	}
	return newID()
}

func drawTime(t *rapid.T, name string) time.Time {
	return epoch.Add(time.Duration(rapid.IntRange(-3, 3).Draw(t, name)) * time.Microsecond)
}

func testModel(t *testing.T, fresh func(tb testing.TB) *Backend) {
	b := fresh(t)
	s := migrated(t, b)
	other := migrated(t, b)
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		m := model{}
		for _, key := range all(t, s, store.KeyQuery{Limit: store.MaxLimit, Sort: store.SortLabel}) {
			_, err := s.DeleteKey(ctx, key.ID, nil)
			must(t, err)
		}
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) {
				key := newKey(rapid.StringMatching(`[aAbB%_ é]{1,6}`).Draw(t, "label"))
				key.ID = m.draw(t)
				key.CreatedAt = drawTime(t, "created")
				if rapid.Bool().Draw(t, "ends") {
					key.ExpiresAt = drawTime(t, "expires")
				}
				key.Permissions = rapid.SampledFrom([][]string{{}, {"a:b"}, {"a:b", "c:d"}, {"a:b-c"}}).Draw(t, "permissions")
				err := s.CreateKey(ctx, key, nil)
				if _, taken := m[key.ID]; taken {
					if !errors.Is(err, store.ErrConflict) {
						t.Fatalf("CreateKey = %v, want ErrConflict", err)
					}
					return
				}
				must(t, err)
				m[key.ID] = key
			},
			"delete": func(t *rapid.T) {
				id := m.draw(t)
				got, err := other.DeleteKey(ctx, id, nil)
				want, there := m[id]
				if !there {
					if !errors.Is(err, store.ErrNotFound) {
						t.Fatalf("DeleteKey = %v, want ErrNotFound", err)
					}
					return
				}
				must(t, err)
				same(t, got, withoutHash(want))
				delete(m, id)
			},
			"rehash": func(t *rapid.T) {
				id, renewed := m.draw(t), newHash()
				key, there := m[id]
				if !there {
					return
				}
				must(t, s.RehashKey(ctx, id, key.Hash, renewed))
				key.Hash = renewed
			},
			"use": func(t *rapid.T) {
				var uses []store.Use
				for range rapid.IntRange(0, 4).Draw(t, "uses") {
					use := store.Use{ID: m.draw(t), At: drawTime(t, "at")}
					uses = append(uses, use)
					if key := m[use.ID]; key != nil && use.At.After(key.LastUsedAt) {
						key.LastUsedAt = use.At
					}
				}
				must(t, other.RecordUse(ctx, uses))
			},
			"list": func(t *rapid.T) {
				query := store.KeyQuery{
					Limit:  rapid.IntRange(1, 5).Draw(t, "limit"),
					Sort:   rapid.SampledFrom(sorts).Draw(t, "sort"),
					Desc:   rapid.Bool().Draw(t, "desc"),
					Search: rapid.StringMatching(`[aAbB%_ é]{0,4}`).Draw(t, "search"),
				}
				if rapid.Bool().Draw(t, "unused") {
					query.UnusedSince = drawTime(t, "since")
				}
				if rapid.Bool().Draw(t, "expiring") {
					query.ExpiringBefore = drawTime(t, "before")
				}
				if rapid.Bool().Draw(t, "live") {
					query.LiveAt = drawTime(t, "now")
				}
				kept := matching(&query, m.keys())
				if got := one(t, s, &query).Total; got != len(kept) {
					t.Fatalf("total = %d, want %d", got, len(kept))
				}
				if diff := cmp.Diff(ids(kept, query.Sort, query.Desc), idsOf(all(t, s, query))); diff != "" {
					t.Fatalf("list differs (-want +got):\n%s", diff)
				}
			},
			"": func(t *rapid.T) {
				for id, want := range m {
					same(t, read(t, other, id), want)
					break
				}
			},
		})
	})
}
