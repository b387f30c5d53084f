package store

import (
	"bytes"
	"context"
	"fmt"
	"time"
)

// AuditLog is the part of a [Store] that keeps the audit log.
type AuditLog interface {
	// AppendAudit seals the records, in their order, as the next of a chain, and
	// writes them; in one transaction, which locks the chain. [ErrConflict] if
	// they are there already: an earlier attempt whose answer was lost did it.
	AppendAudit(ctx context.Context, chain ID, records []AuditRecord, sealer Sealer) error

	// SealAudit seals records that were written without it, limit at most, as the
	// next of [SharedChain], and returns how many: those of [ActorSQL] and
	// [ActorCLI]. Nobody else's may be without.
	SealAudit(ctx context.Context, limit int, sealer Sealer) (int, error)

	// Audit returns one page of the log. It takes milliseconds at ten million
	// records, wherever in the log it is.
	Audit(ctx context.Context, query *AuditQuery) (*AuditPage, error)

	// AuditLabel returns the label that a key had when it was revoked, or "".
	AuditLabel(ctx context.Context, key ID) (string, error)

	// AuditChains returns every chain.
	AuditChains(ctx context.Context) ([]AuditChain, error)

	// AuditLinks returns the sealed records of a chain that follow seq, in their
	// order, limit at most.
	AuditLinks(ctx context.Context, chain ID, seq int64, limit int) ([]AuditRecord, error)

	// AuditUnsealed counts the records that are not sealed, and those among them
	// that nobody but this program could have written so.
	AuditUnsealed(ctx context.Context) (all, foreign int, err error)

	// PruneAudit removes the oldest records of every chain, as long as they are
	// from before the time given, and signs where the chain begins now. Records that
	// are kept together go together, with the youngest of them: within a second. So
	// it stops at the first place at which limit or more of a chain were removed. It
	// returns how many were removed.
	PruneAudit(ctx context.Context, before time.Time, limit int, sealer Sealer) (int, error)
}

// AuditChain is the state of a chain.
type AuditChain struct {
	ID ID
	// Anchor is the place of the newest record that was pruned; Head that of the
	// newest record. Both are zero at first.
	Anchor, Head AuditMark
}

// AuditMark is a place in a chain.
type AuditMark struct {
	Seq int64
	MAC []byte
	// Signature is over the chain's id, the kind of mark, Seq and MAC: without
	// it, whoever takes records away at an end could set the mark back.
	Signature []byte
}

// Sealer authenticates records. It is safe for concurrent use.
type Sealer interface {
	// Seal gives the records their links behind the head of a chain, and returns
	// the head that it has then, signed. The records are clean.
	Seal(chain ID, head AuditMark, records []AuditRecord) AuditMark
	// Anchor signs the place of a record, as that of the newest that was pruned.
	Anchor(link AuditLink) AuditMark
}

const (
	// MaxAuditLimit bounds [AuditQuery.Limit].
	MaxAuditLimit = 1000
	// MaxAuditTotal is up to where the records that a query keeps are counted.
	MaxAuditTotal = 10_000
)

// AuditQuery asks for one page of the audit log, the newest record first.
// Filters that are zero keep all.
type AuditQuery struct {
	// Limit is how many records at most, 1 to [MaxAuditLimit].
	Limit int
	// Before is the id behind which the page starts, or zero for the first.
	Before ID
	Key    ID
	// Label keeps records whose key had this label, ASCII letters in any case.
	Label string
	Event AuditEvent
	// Actor is an [AuditActor.ID].
	Actor string
	// Since keeps records of this time and later, Until those of earlier ones.
	Since, Until time.Time
}

// Check reports what cannot be answered.
func (q *AuditQuery) Check() error {
	if q.Limit < 1 || q.Limit > MaxAuditLimit {
		return fmt.Errorf("limit %d is not between 1 and %d", q.Limit, MaxAuditLimit)
	}
	return nil
}

// Possible reports whether any record could be kept: texts in the log are as
// [AuditRecord.Clean] leaves them, and a database may refuse to look for others.
func (q *AuditQuery) Possible() bool {
	return plainText(q.Label, maxAuditName) == q.Label && plainText(q.Actor, maxAuditName) == q.Actor &&
		(q.Until.IsZero() || q.Since.Before(q.Until))
}

// Events are the events to look for, one at a time. Every index but that of the
// ids has the event behind its column, so a filter by that column alone looks for
// each event there is, and one that is rare is not searched for among those that
// are not. Nil means that the log is walked as it is.
func (q *AuditQuery) Events() []AuditEvent {
	switch {
	case q.Event != "":
		return []AuditEvent{q.Event}
	case q.Key != ID{} && q.Actor != "" && q.Actor != q.Key.String():
		// Of what a key itself does it is the actor: most of the log need not be
		// looked at.
		return []AuditEvent{AuditCreated, AuditRevoked, AuditGap}
	case q.Key != ID{}, q.Label != "", q.Actor != "":
		return AuditEvents
	}
	return nil
}

// Range gives the bounds of the ids: from, and up to but without.
func (q *AuditQuery) Range() (from, below ID) {
	for i := range below {
		below[i] = 0xff
	}
	if !q.Since.IsZero() {
		// Rounded up to what a record can hold.
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
	// Total counts every record that the filters keep, on all pages, up to
	// [MaxAuditTotal]; More says that there are more than that.
	Total int
	More  bool
	// Next is the id behind which the next page starts, or zero on the last.
	Next ID
}

// Cut takes the record that was read beyond the page away and notes that there
// is a next one.
func (p *AuditPage) Cut(limit int) {
	if len(p.Records) > limit {
		p.Records = p.Records[:limit]
		p.Next = p.Records[limit-1].ID
	}
	if p.Total > MaxAuditTotal {
		p.Total, p.More = MaxAuditTotal, true
	}
}
