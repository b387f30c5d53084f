package store

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"
)

// AuditEvent is what happened to a key.
type AuditEvent string

// The events of the audit log.
const (
	// AuditCreated and AuditRevoked are written in the transaction of the change.
	AuditCreated AuditEvent = "api_key.created"
	AuditRevoked AuditEvent = "api_key.revoked"
	// AuditUsed is a request that was let through.
	AuditUsed AuditEvent = "api_key.used"
	// AuditDenied is a request with a key that is not good any more, or that
	// lacks a permission.
	AuditDenied AuditEvent = "api_key.denied"
	// AuditGap stands for records that had to be dropped. Its details say how many.
	AuditGap AuditEvent = "api_key.audit_gap"
)

// AuditEvents are all events.
var AuditEvents = []AuditEvent{AuditCreated, AuditRevoked, AuditUsed, AuditDenied, AuditGap}

// The kinds of [AuditActor].
const (
	ActorKey    = "system_key" // the id is that of the key
	ActorUser   = "user"       // a person, by a JWT or by another handler's word
	ActorCLI    = "cli"        // who had the store in hands
	ActorSQL    = "sql"        // a statement that is not of this program
	ActorServer = "server"     // an instance, on its own
)

// AuditActor is who acted.
type AuditActor struct {
	Type string
	// ID is never empty: where the type has no ids it is the type itself.
	ID    string
	Label string
}

// AuditKey is the key that was acted on, with the label that it had. Both are
// zero in records of no one key.
type AuditKey struct {
	ID    ID
	Label string
}

// AuditRequest is the request by which it was done. It is zero where there was
// none.
type AuditRequest struct {
	// ID is the one in the access log.
	ID     string
	Method string
	// Path is percent-encoded, without the query.
	Path     string
	Status   int
	ClientIP string
}

// AuditRecord is one entry of the audit log. It holds no key and no hash.
type AuditRecord struct {
	// ID orders the log: it begins with At. See [NewAuditID].
	ID    ID
	Event AuditEvent
	// At is exact to the microsecond, in UTC.
	At      time.Time
	Actor   AuditActor
	Key     AuditKey
	Request AuditRequest
	// Details is a JSON object, kept byte for byte, or nil for none.
	Details json.RawMessage
	// Link is zero until the record is sealed.
	Link AuditLink
}

// AuditLink is a record's place in a chain of records. Each is authenticated
// together with all before it, so that none can be changed or taken out unseen.
type AuditLink struct {
	// Chain names it: one for each process that writes behind, and
	// [SharedChain].
	Chain ID
	// Seq counts from 1 without gaps.
	Seq int64
	// MAC is over the record and the MAC before it.
	MAC []byte
}

// SharedChain is the chain of the records that are written in the transaction of
// a change, by whatever process.
var SharedChain ID

// The lengths, in characters, to which [AuditRecord.Clean] cuts texts.
const (
	maxAuditName = 255
	maxAuditPath = 1024
)

// Clean returns the record as a store keeps it: with an id, a time in
// microseconds, and texts that any store can hold, cut to a length. An actor's id
// that is a UUID is in canonical form, so that it is found by its value. What a
// client sent must not make a record that cannot be written.
func (r AuditRecord) Clean() AuditRecord {
	r.At = r.At.UTC().Truncate(time.Microsecond)
	if r.ID == (ID{}) {
		r.ID = NewAuditID(r.At)
	}
	for _, name := range []*string{
		&r.Actor.Type, &r.Actor.ID, &r.Actor.Label, &r.Key.Label, &r.Request.ID, &r.Request.Method, &r.Request.ClientIP,
	} {
		*name = plainText(*name, maxAuditName)
	}
	r.Actor.ID = Canonical(r.Actor.ID)
	r.Request.Path = plainText(r.Request.Path, maxAuditPath)
	return r
}

// plainText makes whatever it is given valid UTF-8 without control characters,
// of a bounded length.
func plainText(s string, limit int) string {
	if len(s) <= limit && isPlain(s) {
		return s
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return firstCharacters(s, limit)
}

func firstCharacters(s string, limit int) string {
	if runes := []rune(s); len(runes) > limit {
		return string(runes[:limit])
	}
	return s
}

// isPlain is the quick answer for nearly every text there is.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// Valid reports whether there is such an event.
func (e AuditEvent) Valid() bool { return slices.Contains(AuditEvents, e) }

// AuditEventNames lists all events, for messages.
func AuditEventNames() string {
	names := make([]string, len(AuditEvents))
	for i, e := range AuditEvents {
		names[i] = string(e)
	}
	return strings.Join(names, ", ")
}

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
