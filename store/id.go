package store

import (
	"encoding/hex"
	"errors"
)

// ID is a key's public identifier, a UUIDv7 (RFC 9562 section 5.7). It is part
// of the key, safe to log, and sortable by the time of creation.
type ID [16]byte

// ErrBadID reports text that is not a UUID in its canonical form.
var ErrBadID = errors.New("not a UUID of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")

// ParseID reads the canonical form of RFC 9562 section 4: 36 characters, hex
// digits of either case, hyphens at their fixed places. Braces, the urn:uuid:
// prefix and the form without hyphens are refused with [ErrBadID].
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, ErrBadID
	}
	digits := s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:36]
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil {
		return ID{}, ErrBadID
	}
	return id, nil
}

// Canonical gives a UUID in the form that [ID.String] has, and leaves other text
// as it is. UUIDs are equal whatever the case of their letters.
func Canonical(text string) string {
	if id, err := ParseID(text); err == nil {
		return id.String()
	}
	return text
}

// String gives the canonical form in lower case.
func (id ID) String() string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	b[8] = '-'
	hex.Encode(b[9:13], id[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], id[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], id[8:10])
	b[23] = '-'
	hex.Encode(b[24:36], id[10:16])
	return string(b[:])
}

// MarshalText implements [encoding.TextMarshaler] with the canonical form.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler] as [ParseID] does.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}
