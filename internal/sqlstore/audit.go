package sqlstore

import (
	"bytes"
	"encoding/json"
	"fmt"
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

// Row is a row of a result, of database/sql or of pgx.
type Row interface{ Scan(dest ...any) error }

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

// ID makes an id the destination of a column of UUIDs. NULL leaves it as it is.
func ID(id *store.ID) any { return (*identifier)(id) }

type identifier store.ID

// Scan implements the Scanner of database/sql, which pgx knows too. Both databases
// give text.
func (id *identifier) Scan(value any) (err error) {
	switch v := value.(type) {
	case nil:
		return nil
	case string:
		*(*store.ID)(id), err = store.ParseID(v)
		return err
	}
	return fmt.Errorf("an id is %T", value)
}

// instant is the destination of a column of times: microseconds since the Unix epoch
// in SQLite.
type instant time.Time

// Scan implements the Scanner of database/sql.
func (at *instant) Scan(value any) error {
	switch v := value.(type) {
	case int64:
		*at = instant(time.UnixMicro(v).UTC())
		return nil
	case time.Time:
		*at = instant(v.UTC())
		return nil
	}
	return fmt.Errorf("a time is %T", value)
}
