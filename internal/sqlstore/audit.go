package sqlstore

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// PruneAudit removes the records of an audit log that are from before a time.
//
// Chain removes the oldest records of a chain that [Prunable] counts, and keeps where
// the chain begins now. Unsealed removes the records without a chain whose ids are
// below the floor. Both return how many were removed. Each call is a transaction of
// its own: the log has other writers to serve.
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

// Prunable counts the records at the beginning of a chain that are below the floor, up
// to the first that is not, and returns the place of the last.
func Prunable(records []store.AuditRecord, floor store.ID) (n int, last store.AuditLink) {
	for n < len(records) && bytes.Compare(records[n].ID[:], floor[:]) < 0 {
		last = records[n].Link
		n++
	}
	return n, last
}

// AuditColumns are the columns of a record, in the order in which ScanAudit reads them.
const AuditColumns = "id, event, at, actor_type, actor, actor_label, key_id, key_label, " +
	"request_id, method, path, status, client_ip, details, chain, seq, mac"

// ScanAudit reads a record from a row of the columns, whose details are text.
func ScanAudit(row Row) (r store.AuditRecord, err error) {
	var details *string
	var seq *int64
	err = row.Scan(ID(&r.ID), (*string)(&r.Event), (*instant)(&r.At), &r.Actor.Type, &r.Actor.ID, &r.Actor.Label,
		ID(&r.Key.ID), &r.Key.Label, &r.Request.ID, &r.Request.Method, &r.Request.Path, &r.Request.Status,
		&r.Request.ClientIP, &details, ID(&r.Link.Chain), &seq, &r.Link.MAC)
	if details != nil {
		r.Details = json.RawMessage(*details)
	}
	if seq != nil {
		r.Link.Seq = *seq
	}
	return r, err
}

// ChainColumns are the columns of a chain, in the order in which ScanChain reads them.
const ChainColumns = "id, seq, mac, signature, anchor_seq, anchor_mac, anchor_signature"

// ScanChain reads a chain from a row of the columns.
func ScanChain(row Row) (chain store.AuditChain, err error) {
	head, anchor := &chain.Head, &chain.Anchor
	err = row.Scan(ID(&chain.ID), &head.Seq, &head.MAC, &head.Signature, &anchor.Seq, &anchor.MAC, &anchor.Signature)
	return chain, err
}

// Values are ids and times as a driver writes them.
type Values struct {
	ID   func(id store.ID) any
	Time func(at time.Time) any
}

// AuditRow returns the columns of a record.
func (v *Values) AuditRow(r *store.AuditRecord) []any {
	var key, chain, seq, details any
	if r.Key.ID != (store.ID{}) {
		key = v.ID(r.Key.ID)
	}
	if r.Link.Seq > 0 {
		chain, seq = v.ID(r.Link.Chain), r.Link.Seq
	}
	if r.Details != nil {
		details = string(r.Details)
	}
	return []any{
		v.ID(r.ID), string(r.Event), v.Time(r.At), r.Actor.Type, r.Actor.ID, r.Actor.Label, key, r.Key.Label,
		r.Request.ID, r.Request.Method, r.Request.Path, r.Request.Status, r.Request.ClientIP, details, chain, seq, r.Link.MAC,
	}
}

// ChainRow returns the columns of a chain, none of which may be NULL.
func (v *Values) ChainRow(c *store.AuditChain) []any {
	bytes := func(b []byte) []byte { return append([]byte{}, b...) }
	return []any{
		v.ID(c.ID), c.Head.Seq, bytes(c.Head.MAC), bytes(c.Head.Signature),
		c.Anchor.Seq, bytes(c.Anchor.MAC), bytes(c.Anchor.Signature),
	}
}
