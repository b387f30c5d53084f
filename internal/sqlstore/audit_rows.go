package sqlstore

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// A row of the audit log holds one record, or several of one key and event that follow one
// another in a chain. Most records are of few keys, and the index entries of a record cost
// more than the record. The columns are those of the newest record, and these:
//
//   - first_id is the id of the oldest record, or NULL if the row has only one,
//   - records is how many records the row has,
//   - earlier has all records but the newest, the oldest first, or is NULL.
//
// In a row the ids ascend, and so do the places in the chain.
const (
	// RowRecords bounds the records of a row. A reader of one record reads them all.
	RowRecords = 64
	// rowSpan bounds the time from the oldest record of a row to the newest. A reader of
	// the records before a time has to look at the rows that end up to so much later.
	rowSpan = time.Second
)

// AuditColumns are the columns of a row, in the order in which ScanAudit reads them.
const AuditColumns = "id, event, at, actor_type, actor, actor_label, key_id, key_label, " +
	"request_id, method, path, status, client_ip, details, chain, seq, mac, first_id, records, earlier"

// AuditRows returns the rows of records, in their order. Records without a place in a chain have
// a row each.
func (v *Values) AuditRows(records []store.AuditRecord) (rows [][]any) {
	for len(records) > 0 {
		n := 1
		for n < min(len(records), RowRecords) && joins(&records[n], records[:n]) {
			n++
		}
		rows = append(rows, v.auditRow(records[:n]))
		records = records[n:]
	}
	return rows
}

// joins reports whether a record may be in a row behind others. It must be the next one of the
// same chain, of the same event, actor and key, later than the last by its id, and within
// rowSpan of the first.
func joins(r *store.AuditRecord, before []store.AuditRecord) bool {
	first, last := &before[0], &before[len(before)-1]
	return last.Link.Seq > 0 && r.Link.Seq == last.Link.Seq+1 && r.Link.Chain == last.Link.Chain &&
		r.Event == last.Event && r.Actor == last.Actor && r.Key == last.Key &&
		less(last.ID, r.ID) && less(r.ID, reach(first.ID))
}

// less compares ids byte by byte, which gives the order of both databases.
func less(a, b store.ID) bool { return bytes.Compare(a[:], b[:]) < 0 }

// reach is above every id in a row whose oldest record has the id given. It grows with the
// id. An id begins with its time in milliseconds.
func reach(id store.ID) store.ID {
	const bits = 16 // of the first eight bytes, behind the time
	head := binary.BigEndian.Uint64(id[:])
	if sum := head + uint64(rowSpan.Milliseconds())<<bits; sum > head {
		binary.BigEndian.PutUint64(id[:], sum)
		return id
	}
	return highest
}

// highest is above every id.
var highest = store.ID(bytes.Repeat([]byte{0xff}, len(store.ID{})))

// auditRow returns the columns of the row of these records. NULL stands for no key, no place in a
// chain, no details and no earlier records.
func (v *Values) auditRow(records []store.AuditRecord) []any {
	last := len(records) - 1
	r := &records[last]
	var key, chain, seq, details, first, earlier any
	if r.Key.ID != (store.ID{}) {
		key = v.ID(r.Key.ID)
	}
	if r.Link.Seq > 0 {
		chain, seq = v.ID(r.Link.Chain), r.Link.Seq
	}
	if r.Details != nil {
		details = string(r.Details)
	}
	if last > 0 {
		first, earlier = v.ID(records[0].ID), pack(records[:last])
	}
	return []any{
		v.ID(r.ID), string(r.Event), v.Time(r.At), r.Actor.Type, r.Actor.ID, r.Actor.Label, key, r.Key.Label,
		r.Request.ID, r.Request.Method, r.Request.Path, r.Request.Status, r.Request.ClientIP, details, chain, seq, r.Link.MAC,
		first, len(records), earlier,
	}
}

// ScanAudit reads the records of a row, the oldest first. The details are text.
//
// A row that does not fit together was damaged. Of such a row there is only the newest
// record, without its MAC, so that the verification of the chain finds it. No MAC is over
// first_id and records, by which a reader finds the row.
func ScanAudit(row Row) ([]store.AuditRecord, error) {
	var r store.AuditRecord
	var details *string
	var seq *int64
	var first store.ID
	var records int
	var earlier []byte
	err := row.Scan(ID(&r.ID), (*string)(&r.Event), (*instant)(&r.At), &r.Actor.Type, &r.Actor.ID, &r.Actor.Label,
		ID(&r.Key.ID), &r.Key.Label, &r.Request.ID, &r.Request.Method, &r.Request.Path, &r.Request.Status,
		&r.Request.ClientIP, &details, ID(&r.Link.Chain), &seq, &r.Link.MAC, ID(&first), &records, &earlier)
	if err != nil {
		return nil, err
	}
	if details != nil {
		r.Details = json.RawMessage(*details)
	}
	if seq != nil {
		r.Link.Seq = *seq
	}
	all, ok := unpack(earlier, &r)
	var oldest store.ID // as the column has it
	if len(all) > 0 {
		oldest = all[0].ID
	}
	if !ok || first != oldest || records != len(all)+1 {
		all, r.Link.MAC = nil, nil
	}
	return append(all, r), nil
}

// Following returns the records of the rows of a chain that follow seq, limit at most. The first
// row may begin with records up to seq.
func Following(records []store.AuditRecord, seq int64, limit int) []store.AuditRecord {
	for len(records) > 0 && records[0].Link.Seq <= seq {
		records = records[1:]
	}
	return records[:min(limit, len(records))]
}
