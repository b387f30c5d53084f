package store

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"
)

// AuditEvent says what happened to a key.
type AuditEvent string

// The events of the audit log.
const (
	// AuditCreated, AuditRevoked and AuditExpired are written in the transaction of the
	// change. AuditExpired is the deletion of a key some time after its expiry.
	AuditCreated AuditEvent = "api_key.created"
	AuditRevoked AuditEvent = "api_key.revoked"
	AuditExpired AuditEvent = "api_key.expired"
	// AuditUsed is a request that was let through.
	AuditUsed AuditEvent = "api_key.used"
	// AuditDenied is a request with a key that is not valid any more, or that lacks a
	// permission.
	AuditDenied AuditEvent = "api_key.denied"
	// AuditNewNetwork is a use from a network that was new. Its details say which, and how
	// many there were.
	AuditNewNetwork AuditEvent = "api_key.new_network"
	// AuditGap says that records had to be dropped. Its details say how many.
	AuditGap AuditEvent = "api_key.audit_gap"
)

// AuditEvents are all events.
var AuditEvents = []AuditEvent{AuditCreated, AuditRevoked, AuditExpired, AuditUsed, AuditDenied, AuditNewNetwork, AuditGap}

// The kinds of [AuditActor].
const (
	ActorKey    = "system_key" // the actor's id is that of the key
	ActorUser   = "user"       // a person whom a JWT or another handler has authenticated
	ActorCLI    = "cli"        // somebody with access to the store, on the command line
	ActorSQL    = "sql"        // a statement of another program
	ActorServer = "server"     // an instance, without a request
)

// AuditActor says who acted.
type AuditActor struct {
	Type string
	// ID is never empty. If the type has no ids, ID is the type.
	ID    string
	Label string
}

// Text names the actor by its label, or by its id if there is none. The label of the command
// line is who ran it, so the id stands before it.
func (a AuditActor) Text() string {
	if a.Type == ActorCLI && a.Label != "" {
		return a.ID + " (" + a.Label + ")"
	}
	return cmp.Or(a.Label, a.ID)
}

// AuditKey is the key that was acted on, with the label that it had then. If a record is not
// about one key, both are zero.
type AuditKey struct {
	ID    ID
	Label string
}

// AuditRequest is the request that did it. Without a request it is zero.
type AuditRequest struct {
	// ID is the id of the request in the access log.
	ID     string
	Method string
	// Path is percent-encoded, without the query.
	Path     string
	Status   int
	ClientIP string
}

// AuditRecord is one entry of the audit log. It holds no key and no hash.
type AuditRecord struct {
	// ID begins with the time At, and so orders the log. See [NewAuditID].
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

// AuditLink is a record's place in a chain of records. Each record is authenticated together
// with all records before it, so that a changed or removed record is noticed.
type AuditLink struct {
	// Chain names the chain. There is one for each process that writes behind, and
	// [SharedChain].
	Chain ID
	// Seq counts from 1 without gaps.
	Seq int64
	// MAC authenticates the record and the MAC before it.
	MAC []byte
}

// SharedChain is the chain of the records that any process writes in the transaction of a
// change.
var SharedChain ID

// The lengths, in characters, to which [AuditRecord.Clean] cuts texts.
const (
	maxAuditName = 255
	maxAuditPath = 1024
)

// Clean returns the record as a store keeps it. It has an id, and a time in microseconds. Its
// texts are cut to a length that any store can hold, so that no text of a client prevents a
// record. If the actor's id is a UUID it gets the canonical form, so that a search finds it
// by value.
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

// plainText turns any text into valid UTF-8 without control characters, and cuts it to limit
// characters.
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

// isPlain reports whether a text is printable ASCII, as nearly every text is.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// Valid reports whether e is one of [AuditEvents].
func (e AuditEvent) Valid() bool { return slices.Contains(AuditEvents, e) }

// AuditEventNames lists all events, for messages.
func AuditEventNames() string {
	names := make([]string, len(AuditEvents))
	for i, e := range AuditEvents {
		names[i] = string(e)
	}
	return strings.Join(names, ", ")
}

// NewAuditID makes the id of a record. It is a UUIDv7 that holds the time in microseconds
// (RFC 9562 section 6.2, method 3). So ids sort the log by time, and a time is a place in
// the log.
func NewAuditID(at time.Time) ID {
	id := AuditFloor(at)
	_, _ = rand.Read(id[8:]) // never fails
	id[8] = id[8]&0x3f | 0x80
	return id
}

// AuditFloor returns the lower bound of the ids of records from this time on. The ids of all
// earlier records are below it.
func AuditFloor(at time.Time) ID {
	us := max(0, at.UnixMicro())
	var id ID
	binary.BigEndian.PutUint64(id[:], uint64(us/1000)<<16)
	binary.BigEndian.PutUint16(id[6:], 0x7000|uint16(us%1000*4096/1000))
	return id
}
