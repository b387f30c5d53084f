package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// matches says which keys a list with the query's filters holds.
func matches(query *store.KeyQuery, key *store.Key) bool {
	needle := foldASCII(query.Search)
	return (strings.Contains(foldASCII(key.Label), needle) || len(needle) >= 4 && strings.Contains(key.ID.String(), needle)) &&
		(query.UnusedSince.IsZero() || key.LastUsedAt.Before(query.UnusedSince)) &&
		(query.ExpiringBefore.IsZero() || !key.ExpiresAt.IsZero() && key.ExpiresAt.Before(query.ExpiringBefore)) &&
		(query.LiveAt.IsZero() || key.ExpiresAt.IsZero() || key.ExpiresAt.After(query.LiveAt))
}

// matching are the keys that the query's filters keep.
func matching(query *store.KeyQuery, keys []*store.Key) []*store.Key {
	return slices.DeleteFunc(slices.Clone(keys), func(key *store.Key) bool { return !matches(query, key) })
}

func testFilters(t *testing.T, fresh func(tb testing.TB) *Backend) {
	check := func(t *testing.T, s store.Store, keys []*store.Key, query store.KeyQuery) {
		t.Helper()
		kept := matching(&query, keys)
		if got := one(t, s, &query).Total; got != len(kept) {
			t.Errorf("%+v: total = %d, want %d", query, got, len(kept))
		}
		if diff := cmp.Diff(ids(kept, query.Sort, query.Desc), idsOf(all(t, s, query))); diff != "" {
			t.Errorf("%+v differs (-want +got):\n%s", query, diff)
		}
	}
	run(t, fresh, map[string]func(*testing.T, *Backend){
		"a search finds what the label contains, in every order": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := create(t, s, slices.Concat(tied(24), []*store.Key{
				newKey("100% of it"), newKey("100 of it"), newKey("snake_case_name"), newKey("snakeXcaseYname"),
				newKey(`back\slash`), newKey(`it's "quoted"`), newKey("a  b"), newKey("ÀÉÎ straße"), newKey("日本語のキー"),
				newKey("🙂🙃🙂"), newKey("*star* [set] ?"), newKey("AND OR NOT"), newKey(`$1 ?1 :a @b`), newKey("--"),
			})...)
			everyOrder(t, func(t *testing.T, query store.KeyQuery) {
				query.Limit = 20
				for _, query.Search = range []string{
					"", "a", "AL", "alp", "ALPHA", "alphabet", "zeb", "100%", "0% o", "%", "%%%", "_", "e_c", "snake_", "___", `\`,
					`k\s`, `\\`, "'", `"`, `"quo`, `'s "q`, "  ", "a  b", "é", "É", "ÀÉÎ", "àéî", "straße", "STRASSE", "日本", "日本語", "本語の",
					"🙂", "🙂🙃", "🙂🙃🙂", "*", "*star*", "[set]", "AND", "or n", "$1", "?1 :a", "--", "-- ", "label:", "^alp", "alp*",
					"'); DROP TABLE system_keys; --", "ı", "K", "ſ", "\x00", "al\x00", "\xff", "alpha\xff\xfe", strings.Repeat("x", 5000),
				} {
					check(t, s, keys, query)
				}
			})
		},
		"a search finds ids, whole or in part": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := create(t, s, tied(12)...)
			id := keys[7].ID.String()
			last := id[24:]
			keys = append(keys, create(t, s, newKey("was "+last+" before"), newKey("face"), newKey("42"))...)
			everyOrder(t, func(t *testing.T, query store.KeyQuery) {
				query.Limit = 2
				for _, query.Search = range []string{
					id, strings.ToUpper(id), id[:8], id[:9], id[:20], id[1:], id[9:23], id[12:16], id[30:], id[32:], id[33:], id[:3],
					last, strings.ToUpper(last), id + "0", " " + id, strings.ReplaceAll(id, "-", ""), "face", "42", "-", "----", "%" + last, id[:4] + "_",
				} {
					check(t, s, keys, query)
				}
				query.Search, query.UnusedSince, query.LiveAt = id[:8], epoch.Add(2*time.Microsecond), epoch.Add(time.Microsecond)
				check(t, s, keys, query)
			})
			query := store.KeyQuery{Limit: 2, Sort: store.SortLabel, Search: last}
			_, err := s.DeleteKey(t.Context(), keys[7].ID, nil)
			must(t, err)
			keys = slices.Delete(keys, 7, 8)
			check(t, s, keys, query)
			face := keys[len(keys)-2]
			for range 2 { // the old id is not found any more
				query.Search = face.ID.String()
				face.ID = newID()
				b.Exec(t, fmt.Sprintf("UPDATE system_keys SET id = '%s' WHERE label = 'face'", face.ID))
				check(t, s, keys, query)
				query.Search = face.ID.String()
				check(t, s, keys, query)
			}
		},
		"a list of unused keys holds those never used too": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := create(t, s, tied(40)...)
			everyOrder(t, func(t *testing.T, query store.KeyQuery) {
				for _, offset := range []time.Duration{
					-time.Hour, 0, time.Nanosecond, time.Microsecond, 2500 * time.Nanosecond, 4 * time.Microsecond, time.Hour,
				} {
					query.UnusedSince = epoch.Add(offset)
					check(t, s, keys, query)
				}
				query.UnusedSince = time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC)
				check(t, s, keys, query)
			})
		},
		"a list of keys that expire holds none that never does": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := create(t, s, tied(40)...)
			times := []time.Time{{}, time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}
			for _, offset := range []time.Duration{
				-time.Hour, 0, time.Nanosecond, time.Microsecond, 2500 * time.Nanosecond, 4 * time.Microsecond, time.Hour,
			} {
				times = append(times, epoch.Add(offset))
			}
			everyOrder(t, func(t *testing.T, query store.KeyQuery) {
				for _, query.ExpiringBefore = range times {
					for _, query.LiveAt = range times {
						check(t, s, keys, query)
					}
				}
			})
		},
		"an expiry at the beginning of the epoch is no end of the list": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := tied(9)
			keys[0].ExpiresAt, keys[1].ExpiresAt = time.UnixMicro(1).UTC(), time.UnixMicro(-1).UTC()
			create(t, s, keys...)
			check(t, s, keys, store.KeyQuery{Limit: 1, Sort: store.SortExpiresAt})
			check(t, s, keys, store.KeyQuery{Limit: 1, Sort: store.SortExpiresAt, Desc: true, LiveAt: time.Unix(0, 0)})
		},
		"filters narrow each other": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			keys := create(t, s, tied(40)...)
			everyOrder(t, func(t *testing.T, query store.KeyQuery) {
				query.Limit = 2
				query.UnusedSince = epoch.Add(2 * time.Microsecond)
				for _, query.Search = range []string{"", "a", "alpha", "zeb", "nothing"} {
					for _, query.ExpiringBefore = range []time.Time{{}, epoch.Add(3 * time.Microsecond)} {
						for _, query.LiveAt = range []time.Time{{}, epoch.Add(time.Microsecond)} {
							check(t, s, keys, query)
						}
					}
				}
			})
		},
		"filters follow what changes": func(t *testing.T, b *Backend) {
			s := migrated(t, b)
			var keys []*store.Key
			for i := range 6 {
				keys = append(keys, create(t, s, newKey(fmt.Sprintf("worker %d", i)))...)
			}
			query := store.KeyQuery{Limit: 2, Sort: store.SortLabel, Search: "WORKER", UnusedSince: epoch}
			check(t, s, keys, query)
			_, err := s.DeleteKey(t.Context(), keys[2].ID, nil)
			must(t, err)
			keys = slices.Delete(keys, 2, 3)
			check(t, s, keys, query)
			must(t, s.RecordUse(t.Context(), []store.Use{{ID: keys[0].ID, At: epoch}}))
			keys[0].LastUsedAt = epoch
			check(t, s, keys, query)
			keys = append(keys, create(t, s, newKey("Worker 9"))...)
			check(t, s, keys, query)
		},
	})
}
