package audit

import (
	"context"
	"crypto/hmac"
	"fmt"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// verifyPage is how many records are read at once.
const verifyPage = 1000

// Report is what [Verify] found.
type Report struct {
	Chains []ChainReport
	// Unsealed records wait for an instance to seal them. What is Foreign among
	// them was not written by this program.
	Unsealed, Foreign int
}

// ChainReport is about one chain.
type ChainReport struct {
	ID store.ID
	// First and Last are the places of its records; Last is before First if there
	// are none.
	First, Last int64
	// Head is the MAC of the last record, to be kept elsewhere by who wants to
	// be sure that the log was not set back as a whole.
	Head []byte
	// Unkeyed counts records that were chained without a secret. Anybody who can
	// write to the store could have made them.
	Unkeyed int
	// Problems say where the chain is broken, the first few of them.
	Problems []string
}

// maxProblems bounds what is said of one chain.
const maxProblems = 10

// OK reports whether nothing is wrong. With a secret, records without it are.
func (r *Report) OK(secret bool) bool {
	for i := range r.Chains {
		if len(r.Chains[i].Problems) > 0 || secret && r.Chains[i].Unkeyed > 0 {
			return false
		}
	}
	return r.Foreign == 0
}

// Verify walks through all chains. Each record must fit one of the secrets, or
// be one that was sealed without any. Records that are written meanwhile are
// looked at up to where the chain ended when it was begun.
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

type verifier struct {
	log     store.AuditLog
	sealers []*Sealer
	unkeyed *Sealer
}

// by returns whether some sealer made what is given, and whether that was the
// one without a secret.
func (v *verifier) by(mac []byte, make func(*Sealer) []byte) (made, unkeyed bool) {
	for _, s := range v.sealers {
		if hmac.Equal(mac, make(s)) {
			return true, false
		}
	}
	return hmac.Equal(mac, make(v.unkeyed)), true
}

// signed reports whether a mark was signed under a secret that is known; without
// any secret, whether it was signed at all. Everybody can sign without one.
func (v *verifier) signed(kind string, chain store.ID, mark store.AuditMark) bool {
	made, unkeyed := v.by(mark.Signature, func(s *Sealer) []byte { return s.mark(kind, chain, mark) })
	return made && (!unkeyed || len(v.sealers) == 0)
}

func (v *verifier) chain(ctx context.Context, chain *store.AuditChain) (*ChainReport, error) {
	w := &walk{
		verifier: v, end: chain.Head,
		at:     store.AuditMark{Seq: chain.Anchor.Seq, MAC: chain.Anchor.MAC},
		report: &ChainReport{ID: chain.ID, First: chain.Anchor.Seq + 1, Last: chain.Anchor.Seq, Head: chain.Head.MAC},
	}
	if chain.Anchor.Seq != 0 && !v.signed(anchorMark, chain.ID, chain.Anchor) {
		w.problem("the place where the chain begins (%d) is not signed under a known secret", chain.Anchor.Seq)
	}
	if chain.Head.Seq != 0 && !v.signed(headMark, chain.ID, chain.Head) {
		w.problem("the place where the chain ends (%d) is not signed under a known secret", chain.Head.Seq)
	}
	for w.at.Seq < w.end.Seq {
		if err := w.page(ctx); err != nil {
			return nil, err
		}
	}
	if w.at.Seq == w.end.Seq && !hmac.Equal(w.at.MAC, w.end.MAC) {
		w.problem("record %d is not the one with which the chain ended", w.at.Seq)
	}
	return w.report, nil
}

// walk is on its way through a chain.
type walk struct {
	*verifier
	report *ChainReport
	at     store.AuditMark // the record that was looked at last
	end    store.AuditMark
}

func (w *walk) problem(format string, args ...any) {
	if len(w.report.Problems) < maxProblems {
		w.report.Problems = append(w.report.Problems, fmt.Sprintf(format, args...))
	}
}

// page looks at some records, or goes on where the chain begins by now if the
// oldest were removed meanwhile.
func (w *walk) page(ctx context.Context) error {
	records, err := w.log.AuditLinks(ctx, w.report.ID, w.at.Seq, verifyPage)
	if err != nil {
		return err
	}
	if len(records) == 0 || records[0].Link.Seq != w.at.Seq+1 {
		begins, err := w.begins(ctx)
		if err != nil {
			return err
		}
		if begins.Seq > w.at.Seq {
			w.at, w.report.First, w.report.Last = begins, begins.Seq+1, begins.Seq
			return nil
		}
	}
	for i := range records {
		if r := &records[i]; r.Link.Seq <= w.end.Seq { // others were written since
			w.look(r)
		}
	}
	if len(records) == 0 || records[len(records)-1].Link.Seq > w.end.Seq && w.at.Seq < w.end.Seq {
		w.problem("records %d to %d are missing", w.at.Seq+1, w.end.Seq)
		w.at = store.AuditMark{Seq: w.end.Seq, MAC: w.end.MAC}
	}
	return nil
}

// begins is where the chain begins by now, as far as that is signed.
func (w *walk) begins(ctx context.Context) (store.AuditMark, error) {
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

// look compares a record with the one before it.
func (w *walk) look(r *store.AuditRecord) {
	follows := r.Link.Seq == w.at.Seq+1
	if !follows {
		w.problem("records %d to %d are missing", w.at.Seq+1, r.Link.Seq-1)
	}
	made, unkeyed := w.by(r.Link.MAC, func(s *Sealer) []byte { return s.record(w.at.MAC, r) })
	switch {
	case !made && follows:
		w.problem("record %d (%s) does not fit the one before it", r.Link.Seq, r.ID)
	case made && unkeyed:
		w.report.Unkeyed++
	}
	w.at = store.AuditMark{Seq: r.Link.Seq, MAC: r.Link.MAC}
	w.report.Last = r.Link.Seq
}
