package postgres

import (
	"slices"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// BenchmarkWhatThePlaceCosts reads one row by three statements in turn, so that
// whatever else the machine does falls on all of them: as it is read, with the
// origin too, and with neither. It reports the median of each.
func BenchmarkWhatThePlaceCosts(b *testing.B) {
	s := empty(b)
	key := &store.Key{ID: store.ID{1}, Label: "read", Hash: "$argon2id$", CreatedAt: time.Unix(1_800_000_000, 0)}
	if err := s.CreateKey(b.Context(), key, nil); err != nil {
		b.Fatal(err)
	}
	db := names(b, s)
	var place store.Position
	var origin string
	err := db.QueryRow(b.Context(), "SELECT rev, tag, {origin} FROM {own}.change_log ORDER BY rev DESC LIMIT 1").
		Scan(&place.Rev, &place.Tag, &origin)
	if err != nil {
		b.Fatal(err)
	}
	selected := "SELECT " + columns + ", key_hash, pg_is_in_recovery(), "
	statements := []struct {
		unit, text string
		args       []any
		took       []time.Duration
	}{
		{unit: "µs/row", text: selected + "true" + fromKey, args: []any{uuid(key.ID)}},
		{unit: "µs/row+place", text: selectKey, args: []any{uuid(key.ID), place.Rev, place.Tag}},
		{
			unit: "µs/row+place+origin", text: selected + followed(2) + fromKey,
			args: []any{uuid(key.ID), place.Rev, place.Tag, origin},
		},
	}
	for b.Loop() {
		for i := range statements {
			began := time.Now()
			if _, err := readKey(db.QueryRow(b.Context(), statements[i].text, statements[i].args...)); err != nil {
				b.Fatal(err)
			}
			statements[i].took = append(statements[i].took, time.Since(began))
		}
	}
	for i := range statements {
		slices.Sort(statements[i].took)
		median := statements[i].took[len(statements[i].took)/2]
		b.ReportMetric(float64(median.Nanoseconds())/1e3, statements[i].unit)
	}
}
