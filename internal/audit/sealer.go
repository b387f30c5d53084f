package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Sealer is a [store.Sealer] under one secret. The MAC of a record is
//
//	HMAC-SHA256(key, "record\0" ‖ MAC of the record before ‖ chain ‖ seq ‖ the record)
//
// with key = HMAC-SHA256(secret, "audit chain\0"). Each text of the record comes with its
// length before it. This is a hash chain in the sense of Schneier and Kelsey ("Secure Audit
// Logs to Support Computer Forensics", 1999), without forward security: a person who has
// the secret can write the past anew.
//
// Without a secret the key is that of an empty secret, which everybody knows. The chain
// then shows accidents, and cannot show a forger.
type Sealer struct{ key []byte }

// NewSealer makes a sealer. The secret may be empty. The key is derived, so that a MAC of the
// log is never one of anything else that has the same secret.
func NewSealer(secret []byte) *Sealer {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("audit chain\x00"))
	return &Sealer{key: h.Sum(nil)}
}

// Seal implements [store.Sealer]. It links the records to the head, and returns the new
// head, signed.
func (s *Sealer) Seal(chain store.ID, head store.AuditMark, records []store.AuditRecord) store.AuditMark {
	mac := recordMAC{hash: hmac.New(sha256.New, s.key)}
	macs := make([]byte, 0, sha256.Size*len(records))
	for i := range records {
		r := &records[i]
		r.Link = store.AuditLink{Chain: chain, Seq: head.Seq + 1}
		macs = mac.appendTo(macs, head.MAC, r)
		r.Link.MAC = macs[i*sha256.Size : (i+1)*sha256.Size : (i+1)*sha256.Size]
		head = store.AuditMark{Seq: r.Link.Seq, MAC: r.Link.MAC}
	}
	head.Signature = s.mark(headMark, chain, head)
	return head
}

// Anchor implements [store.Sealer]. It signs the place where a chain begins after older
// records were removed.
func (s *Sealer) Anchor(link store.AuditLink) store.AuditMark {
	mark := store.AuditMark{Seq: link.Seq, MAC: link.MAC}
	mark.Signature = s.mark(anchorMark, link.Chain, mark)
	return mark
}

// The kinds of marks that are signed, so that one cannot stand for another.
const (
	headMark   = "head\x00"
	anchorMark = "anchor\x00"
)

// mark signs the place of a record in a chain.
func (s *Sealer) mark(kind string, chain store.ID, mark store.AuditMark) []byte {
	h := hmac.New(sha256.New, s.key)
	h.Write([]byte(kind))
	h.Write(chain[:])
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(mark.Seq)))
	h.Write(mark.MAC)
	return h.Sum(nil)
}

// record computes the MAC of a record. Before is the MAC of the record before it.
func (s *Sealer) record(before []byte, r *store.AuditRecord) []byte {
	mac := recordMAC{hash: hmac.New(sha256.New, s.key)}
	return mac.appendTo(nil, before, r)
}

// recordMAC computes the MACs of many records. It keeps the state that the key begins with
// and the memory of the encoding, which cost more than the hash.
type recordMAC struct {
	hash    hash.Hash
	encoded []byte
}

// appendTo appends the MAC of a record to macs. Before is the MAC of the record before it.
func (m *recordMAC) appendTo(macs, before []byte, r *store.AuditRecord) []byte {
	m.encoded = appendRecord(append(m.encoded[:0], "record\x00"...), before, r)
	m.hash.Reset()
	m.hash.Write(m.encoded)
	return m.hash.Sum(macs)
}

// appendRecord encodes a record such that no two different records have the same encoding.
// Absent details differ from empty ones.
func appendRecord(b, before []byte, r *store.AuditRecord) []byte {
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	b = append(binary.AppendUvarint(b, uint64(len(before))), before...)
	b = append(b, r.Link.Chain[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Link.Seq))
	b = append(b, r.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.At.UnixMicro()))
	b = append(b, r.Key.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Request.Status))
	for _, s := range [...]string{
		string(r.Event), r.Actor.Type, r.Actor.ID, r.Actor.Label, r.Key.Label,
		r.Request.ID, r.Request.Method, r.Request.Path, r.Request.ClientIP,
	} {
		text(s)
	}
	if r.Details != nil {
		b = append(binary.AppendUvarint(b, uint64(len(r.Details))), r.Details...)
	}
	return b
}
