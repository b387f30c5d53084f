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

func (v *verifier) chain(ctx context.Context, chain *store.AuditChain) (*ChainReport, error) {
	at := store.AuditMark{Seq: chain.Anchor.Seq, MAC: chain.Anchor.MAC}
	report := &ChainReport{ID: chain.ID, First: at.Seq + 1, Last: at.Seq, Head: chain.Head.MAC}
	problem := func(format string, args ...any) {
		if len(report.Problems) < maxProblems {
			report.Problems = append(report.Problems, fmt.Sprintf(format, args...))
		}
	}
	v.mark(anchorMark, "beginning", chain.ID, chain.Anchor, problem)
	v.mark(headMark, "end", chain.ID, chain.Head, problem)
	for at.Seq < chain.Head.Seq {
		records, err := v.log.AuditLinks(ctx, chain.ID, at.Seq, verifyPage)
		if err != nil {
			return nil, err
		}
		if len(records) == 0 || records[0].Link.Seq != at.Seq+1 {
			moved, err := v.pruned(ctx, chain.ID, at.Seq)
			if err != nil {
				return nil, err
			}
			if moved.Seq > at.Seq { // while we were looking
				at, report.First = moved, moved.Seq+1
				report.Last = max(report.Last, moved.Seq)
				continue
			}
		}
		if len(records) == 0 {
			problem("records %d to %d are missing", at.Seq+1, chain.Head.Seq)
			return report, nil
		}
		for i := range records {
			r := &records[i]
			if r.Link.Seq > chain.Head.Seq {
				break // written since
			}
			if r.Link.Seq != at.Seq+1 {
				problem("records %d to %d are missing", at.Seq+1, r.Link.Seq-1)
				at.MAC = nil
			}
			made, unkeyed := v.by(r.Link.MAC, func(s *Sealer) []byte { return s.record(at.MAC, r) })
			switch {
			case !made && at.MAC == nil && r.Link.Seq > 1:
				// What is missing before it is what it does not fit.
			case !made:
				problem("record %d (%s) does not fit the one before it", r.Link.Seq, r.ID)
			case unkeyed:
				report.Unkeyed++
			}
			at = store.AuditMark{Seq: r.Link.Seq, MAC: r.Link.MAC}
			report.Last = at.Seq
		}
		if records[len(records)-1].Link.Seq > chain.Head.Seq {
			break
		}
	}
	if at.Seq == chain.Head.Seq && !hmac.Equal(at.MAC, chain.Head.MAC) {
		problem("record %d is not the one with which the chain ended", at.Seq)
	}
	return report, nil
}

// pruned is where a chain begins by now. Records that are missing before that
// place were removed because they are old.
func (v *verifier) pruned(ctx context.Context, id store.ID, seq int64) (store.AuditMark, error) {
	chains, err := v.log.AuditChains(ctx)
	if err != nil {
		return store.AuditMark{}, err
	}
	for _, chain := range chains {
		if chain.ID == id && chain.Anchor.Seq > seq {
			made, _ := v.by(chain.Anchor.Signature, func(s *Sealer) []byte { return s.mark(anchorMark, id, chain.Anchor) })
			if made {
				return chain.Anchor, nil
			}
		}
	}
	return store.AuditMark{}, nil
}

// mark checks a signed place, unless the chain has none of that kind yet.
func (v *verifier) mark(kind, name string, chain store.ID, mark store.AuditMark, problem func(string, ...any)) {
	if mark.Seq == 0 && len(mark.Signature) == 0 {
		return
	}
	if made, _ := v.by(mark.Signature, func(s *Sealer) []byte { return s.mark(kind, chain, mark) }); !made {
		problem("the chain's %s (%d) is not signed under a known secret", name, mark.Seq)
	}
}
