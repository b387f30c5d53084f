package audit

import (
	"context"
	"crypto/hmac"
	"fmt"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// verifyPage is how many records are read from the store at once.
const verifyPage = 1000

// Report is what [Verify] found.
type Report struct {
	Chains []ChainReport
	// Unsealed is how many records wait for an instance to seal them. Foreign is how many
	// of those were not written by this program.
	Unsealed, Foreign int
}

// ChainReport is about one chain.
type ChainReport struct {
	ID store.ID
	// First and Last are the numbers of its first and last record. If it has no records,
	// Last is less than First.
	First, Last int64
	// Head is the MAC of the last record. Keep it elsewhere if you want to detect that the
	// whole log was restored to an earlier state.
	Head []byte
	// Unkeyed counts records that were chained without a secret. Anybody who can write to
	// the store could have made them.
	Unkeyed int
	// Problems say where the chain is broken: the first [maxProblems] places.
	Problems []string
}

// maxProblems bounds the problems that are listed for one chain.
const maxProblems = 10

// OK reports whether nothing is wrong. If there is a secret, a record that was chained
// without it is wrong.
func (r *Report) OK(secret bool) bool {
	for i := range r.Chains {
		if len(r.Chains[i].Problems) > 0 || secret && r.Chains[i].Unkeyed > 0 {
			return false
		}
	}
	return r.Foreign == 0
}

// Verify checks all chains. Each record must have been sealed under one of the secrets, or
// without a secret. Verify checks each chain up to the record with which the chain ended at
// the start. Records that are written meanwhile are not checked.
func Verify(ctx context.Context, log store.AuditLog, secrets [][]byte) (*Report, error) {
	chains, err := log.AuditChains(ctx)
	if err != nil {
		return nil, err
	}
	v := verifier{log: log, unkeyed: NewSealer(nil)}
	for _, secret := range secrets {
		v.sealers = append(v.sealers, NewSealer(secret))
	}
	report := &Report{}
	for i := range chains {
		chain, err := v.chain(ctx, &chains[i])
		if err != nil {
			return nil, err
		}
		report.Chains = append(report.Chains, *chain)
	}
	report.Unsealed, report.Foreign, err = log.AuditUnsealed(ctx)
	return report, err
}

// verifier checks MACs and signatures against every secret.
type verifier struct {
	log     store.AuditLog
	sealers []*Sealer // under each secret
	unkeyed *Sealer   // without a secret
}

// chain checks one chain.
func (v *verifier) chain(ctx context.Context, chain *store.AuditChain) (*ChainReport, error) {
	w := &chainWalk{
		verifier: v, end: chain.Head,
		last:   store.AuditMark{Seq: chain.Anchor.Seq, MAC: chain.Anchor.MAC},
		report: &ChainReport{ID: chain.ID, First: chain.Anchor.Seq + 1, Last: chain.Anchor.Seq, Head: chain.Head.MAC},
	}
	// The anchor and the head are signed, so that nobody can cut off the beginning or the end
	// of a chain without a trace. A chain that was never pruned has no anchor.
	if chain.Anchor.Seq != 0 && !v.signed(anchorMark, chain.ID, chain.Anchor) {
		w.problem("the place where the chain begins (%d) is not signed under a known secret", chain.Anchor.Seq)
	}
	if chain.Head.Seq != 0 && !v.signed(headMark, chain.ID, chain.Head) {
		w.problem("the place where the chain ends (%d) is not signed under a known secret", chain.Head.Seq)
	}
	for w.last.Seq < w.end.Seq {
		if err := w.page(ctx); err != nil {
			return nil, err
		}
	}
	if w.last.Seq == w.end.Seq && !hmac.Equal(w.last.MAC, w.end.MAC) {
		w.problem("record %d is not the one with which the chain ended", w.last.Seq)
	}
	return w.report, nil
}

// signed reports whether a mark was signed under one of the secrets. If there are no
// secrets, a signature without a secret is enough. Everybody can make such a signature.
func (v *verifier) signed(kind string, chain store.ID, mark store.AuditMark) bool {
	ok, unkeyed := v.madeBy(mark.Signature, func(s *Sealer) []byte { return s.mark(kind, chain, mark) })
	return ok && (!unkeyed || len(v.sealers) == 0)
}

// madeBy reports whether one of the sealers has computed the MAC, and whether that was the
// sealer without a secret.
func (v *verifier) madeBy(mac []byte, compute func(*Sealer) []byte) (ok, unkeyed bool) {
	for _, s := range v.sealers {
		if hmac.Equal(mac, compute(s)) {
			return true, false
		}
	}
	return hmac.Equal(mac, compute(v.unkeyed)), true
}

// chainWalk goes through a chain from its anchor to its end. It goes on behind a problem, so
// that one bad record does not hide the others.
type chainWalk struct {
	*verifier
	report *ChainReport
	last   store.AuditMark // the record that was checked last
	end    store.AuditMark // the last record to check
}

// problem adds to the report.
func (w *chainWalk) problem(format string, args ...any) {
	if len(w.report.Problems) < maxProblems {
		w.report.Problems = append(w.report.Problems, fmt.Sprintf(format, args...))
	}
}

// page checks the next records. If the oldest records were removed meanwhile, it moves on to
// the new anchor of the chain.
func (w *chainWalk) page(ctx context.Context) error {
	records, err := w.log.AuditLinks(ctx, w.report.ID, w.last.Seq, verifyPage)
	if err != nil {
		return err
	}
	// A hole at the beginning of a page may come of a prune that runs at the same time.
	if len(records) == 0 || records[0].Link.Seq != w.last.Seq+1 {
		anchor, err := w.currentAnchor(ctx)
		if err != nil {
			return err
		}
		if anchor.Seq > w.last.Seq {
			w.last, w.report.First, w.report.Last = anchor, anchor.Seq+1, anchor.Seq
			return nil
		}
	}
	for i := range records {
		if r := &records[i]; r.Link.Seq <= w.end.Seq { // later ones were written meanwhile
			w.check(r)
		}
	}
	// The store has nothing more up to the end, so the rest is missing.
	if len(records) == 0 || records[len(records)-1].Link.Seq > w.end.Seq && w.last.Seq < w.end.Seq {
		w.problem("records %d to %d are missing", w.last.Seq+1, w.end.Seq)
		w.last = store.AuditMark{Seq: w.end.Seq, MAC: w.end.MAC}
	}
	return nil
}

// currentAnchor returns where the chain begins now. If the anchor is not signed, it returns
// zero.
func (w *chainWalk) currentAnchor(ctx context.Context) (store.AuditMark, error) {
	chains, err := w.log.AuditChains(ctx)
	if err != nil {
		return store.AuditMark{}, err
	}
	for _, chain := range chains {
		if chain.ID == w.report.ID && w.signed(anchorMark, chain.ID, chain.Anchor) {
			return chain.Anchor, nil
		}
	}
	return store.AuditMark{}, nil
}

// check compares a record with the record before it.
func (w *chainWalk) check(r *store.AuditRecord) {
	follows := r.Link.Seq == w.last.Seq+1
	if !follows {
		w.problem("records %d to %d are missing", w.last.Seq+1, r.Link.Seq-1)
	}
	ok, unkeyed := w.madeBy(r.Link.MAC, func(s *Sealer) []byte { return s.record(w.last.MAC, r) })
	switch {
	case !ok && follows: // behind a hole no MAC can fit, and the hole was reported
		w.problem("record %d (%s) does not fit the one before it", r.Link.Seq, r.ID)
	case ok && unkeyed:
		w.report.Unkeyed++
	}
	w.last = store.AuditMark{Seq: r.Link.Seq, MAC: r.Link.MAC}
	w.report.Last = r.Link.Seq
}
