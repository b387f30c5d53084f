package store

import (
	"bytes"
	"context"
	"fmt"
	"time"
)

// AuditLog is the part of a [Store] that keeps the audit log.
type AuditLog interface {
	// AppendAudit seals the records, in their order, as the next ones of a chain, and writes
	// them. It does so in one transaction, which locks the chain. The error is [ErrConflict]
	// if the records exist already: an earlier attempt has written them, and its answer was
	// lost.
	AppendAudit(ctx context.Context, chain ID, records []AuditRecord, sealer Sealer) error

	// SealAudit seals records that were written without a seal, limit at most, as the next
	// ones of [SharedChain]. It returns how many it has sealed. It seals the records of
	// [ActorSQL] and [ActorCLI]. Others must not be without a seal.
	SealAudit(ctx context.Context, limit int, sealer Sealer) (int, error)

	// Audit returns one page of the log. With ten million records, any page takes
	// milliseconds.
	Audit(ctx context.Context, query *AuditQuery) (*AuditPage, error)

	// AuditLabel returns the label of a key, or the label that the key had when it was deleted,
	// or "".
	AuditLabel(ctx context.Context, key ID) (string, error)

	// AuditChains returns every chain.
	AuditChains(ctx context.Context) ([]AuditChain, error)

	// AuditLinks returns the sealed records of a chain after seq, in their order, limit at
	// most.
	AuditLinks(ctx context.Context, chain ID, seq int64, limit int) ([]AuditRecord, error)

	// AuditUnsealed counts the records that are not sealed, and those among them
	// that nobody but this program could have written so.
	AuditUnsealed(ctx context.Context) (all, foreign int, err error)

	// PruneAudit removes the oldest records of every chain that are from before this time,
	// and signs the new beginning of the chain. Records that are kept together go together,
	// with the youngest of them, which is within a second. So it stops at the first place at
	// which limit or more of a chain were removed. It returns how many were removed.
	PruneAudit(ctx context.Context, before time.Time, limit int, sealer Sealer) (int, error)
}

// AuditChain is the state of a chain.
type AuditChain struct {
	ID ID
	// Anchor is the place of the newest pruned record. Head is the place of the newest
	// record. Both are zero at first.
	Anchor, Head AuditMark
}

// AuditMark is a place in a chain.
type AuditMark struct {
	Seq int64
	MAC []byte
	// Signature signs the chain's id, the kind of mark, Seq and MAC. Without it, somebody who
	// removes records at an end of the chain could set the mark back.
	Signature []byte
}

// Sealer authenticates records. It is safe for concurrent use.
type Sealer interface {
	// Seal gives the records their links after the head of a chain, and returns the new head,
	// signed. The records must be clean.
	Seal(chain ID, head AuditMark, records []AuditRecord) AuditMark
	// Anchor signs the place of the newest pruned record.
	Anchor(link AuditLink) AuditMark
}

const (
	// MaxAuditLimit bounds [AuditQuery.Limit].
	MaxAuditLimit = 1000
	// MaxAuditTotal is where the count of the records that a query keeps stops.
	MaxAuditTotal = 10_000
)

// AuditQuery asks for one page of the audit log, the newest record first. A filter that is
// zero keeps all records.
type AuditQuery struct {
	// Limit is the size of the page, 1 to [MaxAuditLimit].
	Limit int
	// Before is the id after which the page starts, or zero for the first page.
	Before ID
	Key    ID
	// Label keeps records whose key had this label. The case of ASCII letters does not matter.
	Label string
	Event AuditEvent
	// Actor is an [AuditActor.ID].
	Actor string
	// Since keeps records from this time on. Until keeps records from before this time.
	Since, Until time.Time
}

// Check returns an error if the limit is out of bounds.
func (q *AuditQuery) Check() error {
	if q.Limit < 1 || q.Limit > MaxAuditLimit {
		return fmt.Errorf("limit %d is not between 1 and %d", q.Limit, MaxAuditLimit)
	}
	return nil
}

// Possible reports whether the filters could keep any record. Texts in the log are as
// [AuditRecord.Clean] leaves them, and a database may refuse to search for others.
func (q *AuditQuery) Possible() bool {
	return plainText(q.Label, maxAuditName) == q.Label && plainText(q.Actor, maxAuditName) == q.Actor &&
		(q.Until.IsZero() || q.Since.Before(q.Until))
}

// Events returns the events that a driver searches for, one after the other. The indexes by key,
// actor and label have the event as their second column, and the id as the third. So a filter
// by the first column alone searches for each event by itself, and does not look for rare events
// among frequent ones. Nil means that the log is read in the order of the ids.
func (q *AuditQuery) Events() []AuditEvent {
	switch {
	case q.Event != "":
		return []AuditEvent{q.Event}
	case q.Key != ID{} && q.Actor != "" && q.Actor != q.Key.String():
		// What a key does itself has that key as the actor, so most of the log need not be
		// searched.
		return []AuditEvent{AuditCreated, AuditRevoked, AuditExpired, AuditGap}
	case q.Key != ID{}, q.Label != "", q.Actor != "":
		return AuditEvents
	}
	return nil
}

// Range returns the bounds of the ids: from is included, and below is not.
func (q *AuditQuery) Range() (from, below ID) {
	for i := range below {
		below[i] = 0xff
	}
	if !q.Since.IsZero() {
		// The times are rounded up to microseconds, as in a record.
		from = AuditFloor(q.Since.Add(time.Microsecond - 1))
	}
	if !q.Until.IsZero() {
		below = AuditFloor(q.Until.Add(time.Microsecond - 1))
	}
	if q.Before != (ID{}) && bytes.Compare(q.Before[:], below[:]) < 0 {
		below = q.Before
	}
	return from, below
}

// AuditPage is one page of the audit log.
type AuditPage struct {
	Records []AuditRecord
	// Total is the number of records that the filters keep, on all pages, up to
	// [MaxAuditTotal]. More says that there are more.
	Total int
	More  bool
	// Next is the id after which the next page starts, or zero on the last page.
	Next ID
}

// Cut removes the record that was read beyond the page. If there is one, it sets Next. It
// also bounds Total.
func (p *AuditPage) Cut(limit int) {
	if len(p.Records) > limit {
		p.Records = p.Records[:limit]
		p.Next = p.Records[limit-1].ID
	}
	if p.Total > MaxAuditTotal {
		p.Total, p.More = MaxAuditTotal, true
	}
}
