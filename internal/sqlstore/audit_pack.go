package sqlstore

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"strings"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// pack encodes what differs between the records of a row. What is written, and written
// again at a checkpoint, costs more than to encode it. So the text that the record before
// had too is a single zero byte, a UUID is its 16 bytes, and a time is the distance to that
// of the id.
func pack(records []store.AuditRecord) []byte {
	p := packing{make([]byte, 0, 128*len(records))}
	var before store.AuditRecord
	for i := range records {
		r := &records[i]
		p.b = append(p.b, r.ID[:]...)
		p.b = binary.AppendVarint(p.b, r.At.UnixMicro()-milliseconds(r.ID)*1000)
		p.b = binary.AppendVarint(p.b, int64(r.Request.Status))
		if id, err := store.ParseID(r.Request.ID); err == nil && !strings.ContainsAny(r.Request.ID, "ABCDEF") {
			p.b = append(append(p.b, isUUID), id[:]...)
		} else {
			p.b = append(p.b, isText)
			p.text(r.Request.ID, before.Request.ID)
		}
		p.text(r.Request.Method, before.Request.Method)
		p.text(r.Request.Path, before.Request.Path)
		p.text(r.Request.ClientIP, before.Request.ClientIP)
		p.text(string(r.Link.MAC), "")
		if r.Details != nil {
			p.b = append(p.b, isText)
			p.text(string(r.Details), string(before.Details))
		} else {
			p.b = append(p.b, isNil)
		}
		before = *r
	}
	return p.b
}

// What a text is that may be something else.
const (
	isNil byte = iota
	isText
	isUUID
)

// milliseconds returns the time with which an id begins.
func milliseconds(id store.ID) int64 { return int64(binary.BigEndian.Uint64(id[:]) >> 16) }

// packing is what was packed so far.
type packing struct{ b []byte }

// text appends a text by its length and one, or zero for the text that was before.
func (p *packing) text(s, before string) {
	if s == before {
		p.b = append(p.b, 0)
		return
	}
	p.b = append(binary.AppendUvarint(p.b, uint64(len(s))+1), s...)
}

// unpack decodes the records that come before the newest of a row, if it can. The event, the
// actor, the key and the chain are those of the newest. Bytes that cannot be read give false,
// and no panic. What can be read and is wrong, the MACs show.
func unpack(b []byte, newest *store.AuditRecord) (all []store.AuditRecord, ok bool) {
	u := unpacking{rest: b}
	var before store.AuditRecord
	for len(u.rest) > 0 {
		r := store.AuditRecord{Event: newest.Event, Actor: newest.Actor, Key: newest.Key}
		r.ID = u.id()
		r.At = time.UnixMicro(milliseconds(r.ID)*1000 + u.number()).UTC()
		r.Request.Status = int(u.number())
		if u.kind(isText, isUUID) == isUUID {
			r.Request.ID = u.id().String()
		} else {
			r.Request.ID = u.text(before.Request.ID)
		}
		r.Request.Method = u.text(before.Request.Method)
		r.Request.Path = u.text(before.Request.Path)
		r.Request.ClientIP = u.text(before.Request.ClientIP)
		r.Link = store.AuditLink{Chain: newest.Link.Chain, MAC: []byte(u.text(""))}
		if u.kind(isNil, isText) == isText {
			r.Details = json.RawMessage(u.text(string(before.Details)))
		}
		if u.damaged {
			return nil, false
		}
		all, before = append(all, r), r
	}
	for i := range all {
		all[i].Link.Seq = newest.Link.Seq - int64(len(all)-i)
	}
	return all, true
}

// unpacking is what is left of packed records. Once damaged it gives zero values.
type unpacking struct {
	rest    []byte
	damaged bool
}

// bytes returns the next n bytes, or nil if there are not so many. A varint that cannot be
// read has the length 0, or less.
func (u *unpacking) bytes(n int) []byte {
	if n <= 0 || n > len(u.rest) {
		u.damaged, u.rest = true, nil
		return nil
	}
	b := u.rest[:n]
	u.rest = u.rest[n:]
	return b
}

// id reads the 16 bytes of a UUID.
func (u *unpacking) id() (id store.ID) {
	copy(id[:], u.bytes(len(id)))
	return id
}

// kind returns what comes next, which is one or the other.
func (u *unpacking) kind(one, other byte) byte {
	b := u.bytes(1)
	if b == nil || b[0] != one && b[0] != other {
		u.damaged = true
		return one
	}
	return b[0]
}

// number reads a varint with a sign, as [binary.AppendVarint] writes it.
func (u *unpacking) number() int64 {
	value, n := binary.Varint(u.rest)
	u.bytes(n)
	return value
}

// text reads what packing.text has written. Before is that text of the record before. A damaged
// length is bounded before it becomes an int, which may have 32 bits.
func (u *unpacking) text(before string) string {
	length, n := binary.Uvarint(u.rest)
	u.bytes(n)
	switch length {
	case 0:
		return before
	case 1:
		return ""
	}
	return string(u.bytes(int(min(length-1, math.MaxInt32))))
}
