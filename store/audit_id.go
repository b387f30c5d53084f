package store

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

// NewAuditID makes the id of a record: a UUIDv7 whose order is that of time to
// the microsecond (RFC 9562 section 6.2, method 3), so that the log is sorted by
// it and a time is a place in it.
func NewAuditID(at time.Time) ID {
	id := AuditFloor(at)
	_, _ = rand.Read(id[8:]) // never fails
	id[8] = id[8]&0x3f | 0x80
	return id
}

// AuditFloor is not above the id of any record of this time or later, and above
// those of all earlier ones.
func AuditFloor(at time.Time) ID {
	us := max(0, at.UnixMicro())
	var id ID
	binary.BigEndian.PutUint64(id[:], uint64(us/1000)<<16)
	binary.BigEndian.PutUint16(id[6:], 0x7000|uint16(us%1000*4096/1000))
	return id
}
