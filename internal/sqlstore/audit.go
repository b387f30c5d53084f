package sqlstore

import (
	"bytes"
	"math"
	"slices"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// PruneAudit removes the records of an audit log that are from before a time.
//
// Chain removes the oldest records of a chain that [Prunable] counts, and keeps where the chain
// begins now. Unsealed removes records without a chain whose ids are below the floor. Both bound
// how many they remove, and return the number. Each call is a transaction of its own, since other
// writers of the log wait for it.
//
// An error ends it. What earlier calls have removed stays removed, and is counted.
func PruneAudit(
	chains []store.AuditChain, before time.Time,
	chain func(chain *store.AuditChain, floor store.ID) (int, error), unsealed func(floor store.ID) (int, error),
) (pruned int, err error) {
	floor := store.AuditFloor(before)
	for i := range chains {
		if chains[i].Anchor.Seq >= chains[i].Head.Seq {
			continue // it has no records
		}
		n, err := chain(&chains[i], floor)
		if err != nil {
			return pruned, err
		}
		pruned += n
	}
	n, err := unsealed(floor)
	return pruned + n, err
}

// Record hands the records of a change of these keys to add, in the order of the keys. Without a
// record it does not call add.
func Record(write *store.Write, keys []*store.Key, add func(records []store.AuditRecord) error) error {
	var records []store.AuditRecord
	for _, key := range keys {
		if record, ok := write.Records(key); ok {
			records = append(records, record)
		}
	}
	if len(records) == 0 {
		return nil
	}
	return add(records)
}

// AuditEnd is where a row of an audit log ends: the id and the place of its newest record.
// Records is how many the row has.
type AuditEnd struct {
	ID      store.ID
	Link    store.AuditLink
	Records int
}

// EndColumns are the columns of an end, in the order in which ScanEnd reads them.
const EndColumns = "id, chain, seq, mac, records"

// ScanEnd reads an end from a row of the columns.
func ScanEnd(row Row) (end AuditEnd, err error) {
	err = row.Scan(ID(&end.ID), ID(&end.Link.Chain), &end.Link.Seq, &end.Link.MAC, &end.Records)
	return end, err
}

// Prunable counts the records at the beginning of a chain whose rows are below the floor, up to
// the first row that is not. It stops at the limit, but not within a row. It returns the place
// of the last record. The rows are in the order of the chain, from its oldest on. With n = 0
// there is nothing to remove, and last is zero. A row goes as a whole, by the time of its newest
// record.
func Prunable(rows []AuditEnd, floor store.ID, limit int) (n int, last store.AuditLink) {
	for i := range rows {
		if n >= limit || !less(rows[i].ID, floor) {
			break
		}
		n, last = n+rows[i].Records, rows[i].Link
	}
	return n, last
}

// AuditSpan selects rows of an audit log by the ids of their newest and of their oldest record,
// each from an id up to, but without, another one. Zero for a lower bound, and [highest] for an
// upper one, bound nothing.
type AuditSpan struct{ NewestFrom, NewestBelow, OldestFrom, OldestBelow store.ID }

// AuditReader reads the log for a query, all filters but that of the time.
type AuditReader struct {
	// Rows reads the newest rows, in any order: as many as have the records that are wanted.
	Rows func(span *AuditSpan, want int) ([][]store.AuditRecord, error)
	// Count counts the records of rows, at least up to [store.MaxAuditTotal] and one more.
	Count func(span *AuditSpan) (int, error)
}

// AuditPage reads one page of the log.
//
// It asks for one record more than the page has, which tells whether there is a next page. The
// errors are those of the reader.
func AuditPage(query *store.AuditQuery, log *AuditReader) (*store.AuditPage, error) {
	records, err := auditRecords(query, log)
	if err != nil {
		return nil, err
	}
	total, err := auditTotal(query, log)
	if err != nil {
		return nil, err
	}
	page := &store.AuditPage{Records: records, Total: total}
	page.Cut(query.Limit)
	return page, nil
}

// auditRecords returns the records of a page, and of those behind it. Rows may overlap in
// time.
//
// A row is found by its newest record, and its other records may be up to rowSpan older. So the
// search begins that much above the bound. If the rows that were read do not settle the page, it
// goes on behind them, and asks for twice as many records.
func auditRecords(query *store.AuditQuery, log *AuditReader) (records []store.AuditRecord, err error) {
	from, below := query.Range()
	span := AuditSpan{NewestFrom: from, NewestBelow: reach(below), OldestBelow: below}
	for want := query.Limit + 1; ; want *= 2 {
		rows, err := log.Rows(&span, want)
		if err != nil {
			return nil, err
		}
		read := 0
		for _, row := range rows {
			read += len(row)
			records = append(records, within(row, from, below)...)
			if newest := row[len(row)-1].ID; less(newest, span.NewestBelow) {
				span.NewestBelow = newest
			}
		}
		slices.SortFunc(records, func(a, b store.AuditRecord) int { return bytes.Compare(b.ID[:], a.ID[:]) })
		// All that other rows have is older than the newest record of the oldest row here.
		if read < want || len(records) > query.Limit && !less(records[query.Limit].ID, span.NewestBelow) {
			return records, nil
		}
	}
}

// within returns the records of a row whose ids are from an id up to, but without, another. The
// records of the row are in the order of their ids.
func within(row []store.AuditRecord, from, below store.ID) []store.AuditRecord {
	for len(row) > 0 && less(row[0].ID, from) {
		row = row[1:]
	}
	for len(row) > 0 && !less(row[len(row)-1].ID, below) {
		row = row[:len(row)-1]
	}
	return row
}

// auditTotal counts the records of all pages. It has to look into the rows that are only in
// part between the bounds.
//
// Rows that lie wholly between the bounds are counted in the database. The rows across a bound are
// within rowSpan of it, so they are few, and are read. The cursor is no bound here: the total is
// that of all pages.
func auditTotal(query *store.AuditQuery, log *AuditReader) (int, error) {
	whole := *query
	whole.Before = store.ID{}
	from, below := whole.Range()
	total, err := log.Count(&AuditSpan{NewestFrom: from, NewestBelow: below, OldestFrom: from, OldestBelow: highest})
	if err != nil || total > store.MaxAuditTotal {
		return total, err
	}
	begun := AuditSpan{NewestFrom: from, NewestBelow: below, OldestBelow: from}
	if end := reach(from); less(end, below) {
		begun.NewestBelow = end
	}
	// The first are the rows across the lower bound, the second those across the upper one.
	for _, span := range []AuditSpan{begun, {NewestFrom: below, NewestBelow: reach(below), OldestBelow: below}} {
		if span.OldestBelow == (store.ID{}) || span.NewestFrom == highest {
			continue // without a bound no row is across it
		}
		rows, err := log.Rows(&span, math.MaxInt32)
		if err != nil {
			return 0, err
		}
		for _, row := range rows {
			total += len(within(row, from, below))
		}
	}
	return total, nil
}

// ChainColumns are the columns of a chain, in the order in which ScanChain reads them.
const ChainColumns = "id, seq, mac, signature, anchor_seq, anchor_mac, anchor_signature"

// ScanChain reads a chain from a row of the columns.
func ScanChain(row Row) (chain store.AuditChain, err error) {
	head, anchor := &chain.Head, &chain.Anchor
	err = row.Scan(ID(&chain.ID), &head.Seq, &head.MAC, &head.Signature, &anchor.Seq, &anchor.MAC, &anchor.Signature)
	return chain, err
}

// Values turns ids and times into what a driver writes.
type Values struct {
	ID   func(id store.ID) any
	Time func(at time.Time) any
}

// ChainRow returns the columns of a chain, none of which may be NULL.
func (v *Values) ChainRow(c *store.AuditChain) []any {
	// A nil slice would be NULL.
	bytes := func(b []byte) []byte { return append([]byte{}, b...) }
	return []any{
		v.ID(c.ID), c.Head.Seq, bytes(c.Head.MAC), bytes(c.Head.Signature),
		c.Anchor.Seq, bytes(c.Anchor.MAC), bytes(c.Anchor.Signature),
	}
}
