package sqlstore_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

var auditTime = time.Unix(1_800_000_000, 0).UTC()

// row is a row of a result that a driver has read.
type row []any

// Scan sets the destinations to the columns, as database/sql does.
func (r row) Scan(dest ...any) error {
	for i, value := range r {
		if scanner, ok := dest[i].(interface{ Scan(value any) error }); ok {
			if err := scanner.Scan(value); err != nil {
				return err
			}
			continue
		}
		if to := reflect.ValueOf(dest[i]).Elem(); value != nil {
			from := reflect.ValueOf(value)
			if to.Kind() == reflect.Pointer {
				to.Set(reflect.New(to.Type().Elem()))
				to = to.Elem()
			}
			to.Set(from.Convert(to.Type()))
		}
	}
	return nil
}

var auditValues = sqlstore.Values{
	ID:   func(id store.ID) any { return id.String() },
	Time: func(at time.Time) any { return at.UnixMicro() },
}

// sealed are n records of a key, a millisecond apart.
func sealed(n int) []store.AuditRecord {
	records := make([]store.AuditRecord, n)
	for i := range records {
		records[i] = store.AuditRecord{
			Event: store.AuditUsed, At: auditTime.Add(time.Duration(i) * time.Millisecond), Key: store.AuditKey{ID: store.ID{1}, Label: "é"},
			Actor:   store.AuditActor{Type: store.ActorKey, ID: store.ID{1}.String(), Label: "é"},
			Request: store.AuditRequest{ID: "r", Method: "POST", Path: fmt.Sprintf("/%d", i), Status: 200 + i, ClientIP: "::1"},
			Link:    store.AuditLink{Chain: store.ID{2}, Seq: int64(i + 5), MAC: []byte{byte(i), 1}},
		}.Clean()
		if i%3 == 1 {
			records[i].Details = json.RawMessage(`{"cut":true}`)
		}
	}
	return records
}

// written are the numbers of records in the rows, and the records that the rows give back.
func written(t *testing.T, records []store.AuditRecord) (sizes []int, read []store.AuditRecord) {
	t.Helper()
	for _, columns := range auditValues.AuditRows(records) {
		all, err := sqlstore.ScanAudit(row(columns))
		if err != nil {
			t.Fatal(err)
		}
		sizes, read = append(sizes, len(all)), append(read, all...)
	}
	return sizes, read
}

func TestRecordsOfOneKeyShareARow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(records []store.AuditRecord)
		want   []int
	}{
		"up to a number":             {func([]store.AuditRecord) {}, []int{64, 36}},
		"of one key":                 {func(all []store.AuditRecord) { all[10].Key.ID = store.ID{9} }, []int{10, 1, 64, 25}},
		"with one label":             {func(all []store.AuditRecord) { all[10].Key.Label = "x" }, []int{10, 1, 64, 25}},
		"by one actor":               {func(all []store.AuditRecord) { all[10].Actor.ID = "x" }, []int{10, 1, 64, 25}},
		"of one event":               {func(all []store.AuditRecord) { all[10].Event = store.AuditDenied }, []int{10, 1, 64, 25}},
		"of one chain":               {func(all []store.AuditRecord) { all[10].Link.Chain = store.ID{9} }, []int{10, 1, 64, 25}},
		"without a hole":             {func(all []store.AuditRecord) { all[10].Link.Seq++ }, []int{10, 1, 64, 25}},
		"in the order of their ids":  {func(all []store.AuditRecord) { all[10].ID = all[8].ID }, []int{10, 64, 26}},
		"of one second":              {func(all []store.AuditRecord) { all[10].ID = store.NewAuditID(auditTime.Add(1001 * time.Millisecond)) }, []int{10, 1, 64, 25}},
		"if they are sealed already": {unsealed, slices.Repeat([]int{1}, 100)},
	} {
		records := sealed(100)
		c.change(records)
		sizes, read := written(t, records)
		if !slices.Equal(sizes, c.want) {
			t.Errorf("%s: rows of %v, want %v", name, sizes, c.want)
		}
		if diff := cmp.Diff(records, read); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func unsealed(all []store.AuditRecord) {
	for i := range all {
		all[i].Link = store.AuditLink{}
	}
}

// TestADamagedRowDoesNotVerify changes what no MAC is over, or what cannot be read then.
func TestADamagedRowDoesNotVerify(t *testing.T) {
	t.Parallel()
	const first, records, earlier = 17, 18, 19
	for _, n := range []int{1, 3} {
		for name, c := range map[string]struct {
			column int
			value  any
		}{
			"first id": {first, store.ID{7}.String()}, "number": {records, 2}, "packed": {earlier, []byte{1}},
		} {
			columns := auditValues.AuditRows(sealed(n))[0]
			columns[c.column] = c.value
			all, err := sqlstore.ScanAudit(row(columns))
			if err != nil || len(all) != 1 || all[0].Link.MAC != nil || all[0].Request.Path != fmt.Sprintf("/%d", n-1) {
				t.Errorf("%s of %d: %+v, %v", name, n, all, err)
			}
		}
	}
}

func FuzzPackedRecords(f *testing.F) {
	columns := auditValues.AuditRows(sealed(3))[0]
	f.Add(columns[19].([]byte))
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, packed []byte) {
		columns := slices.Clone(columns)
		columns[19] = packed
		if all, err := sqlstore.ScanAudit(row(columns)); err != nil || len(all) == 0 {
			t.Errorf("%d records, %v", len(all), err)
		}
	})
}

// log is an [sqlstore.AuditReader] of rows in memory.
type log [][]store.AuditRecord

func (l log) in(span *sqlstore.AuditSpan) (rows [][]store.AuditRecord) {
	for _, row := range l {
		newest, oldest := string(row[len(row)-1].ID[:]), string(row[0].ID[:])
		if newest >= string(span.NewestFrom[:]) && newest < string(span.NewestBelow[:]) &&
			oldest >= string(span.OldestFrom[:]) && oldest < string(span.OldestBelow[:]) {
			rows = append(rows, row)
		}
	}
	return rows
}

func (l log) Rows(span *sqlstore.AuditSpan, want int) (rows [][]store.AuditRecord, _ error) {
	all := l.in(span)
	slices.SortFunc(all, func(a, b []store.AuditRecord) int {
		return slices.Compare(b[len(b)-1].ID[:], a[len(a)-1].ID[:])
	})
	for _, row := range all {
		if want <= 0 {
			break
		}
		rows, want = append(rows, row), want-len(row)
	}
	return rows, nil
}

func (l log) Count(span *sqlstore.AuditSpan) (n int, _ error) {
	for _, row := range l.in(span) {
		n += len(row)
	}
	return n, nil
}

// TestAPageIsCutOutOfRows compares pages of logs, whose rows overlap in time, with what a
// loop over all records finds.
func TestAPageIsCutOutOfRows(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	at := func(n int) time.Time { return auditTime.Add(time.Duration(n) * time.Millisecond) }
	for range 2000 {
		var rows log
		var all []store.ID
		for range random.IntN(12) {
			row, begin := []store.AuditRecord{}, random.IntN(3000)
			for range 1 + random.IntN(8) {
				row = append(row, store.AuditRecord{ID: store.NewAuditID(at(begin))})
				all = append(all, row[len(row)-1].ID)
				begin += 1 + random.IntN(140)
			}
			rows = append(rows, row)
		}
		query := store.AuditQuery{Limit: 1 + random.IntN(10)}
		if random.IntN(2) == 0 {
			query.Since = at(random.IntN(3000))
		}
		if random.IntN(2) == 0 {
			query.Until = at(random.IntN(3000))
		}
		from, below := query.Range()
		slices.SortFunc(all, func(a, b store.ID) int { return slices.Compare(b[:], a[:]) })
		want := slices.DeleteFunc(all, func(id store.ID) bool {
			return slices.Compare(id[:], from[:]) < 0 || slices.Compare(id[:], below[:]) >= 0
		})
		total := len(want)
		for more := true; more; more = query.Before != (store.ID{}) {
			page, err := sqlstore.AuditPage(&query, &sqlstore.AuditReader{Rows: rows.Rows, Count: rows.Count})
			if err != nil || page.Total != total {
				t.Fatalf("%+v: %+v, want %d, %v", query, page, total, err)
			}
			for _, r := range page.Records {
				if r.ID != want[0] {
					t.Fatalf("%+v: %v, want %v", query, r.ID, want[0])
				}
				want = want[1:]
			}
			query.Before = page.Next
		}
		if len(want) != 0 {
			t.Fatalf("%+v: %d are missing", query, len(want))
		}
	}
}
