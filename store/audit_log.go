package store

import (
	"context"
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
	// from before the time given, limit at most of each, and signs where the chain
	// begins now. It returns how many were removed.
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
