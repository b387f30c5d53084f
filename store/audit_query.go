package store

import (
	"fmt"
	"strings"
	"time"
)

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
	if q.Before != (ID{}) && strings.Compare(string(q.Before[:]), string(below[:])) < 0 {
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
