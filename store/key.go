package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
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

// ParseKeyID is [ParseID] for the id of a key. The nil UUID (RFC 9562 section 5.9) is
// refused too: no key has it, and in a query it means all keys.
func ParseKeyID(s string) (ID, error) {
	id, err := ParseID(s)
	if err == nil && id == (ID{}) {
		return ID{}, ErrBadID
	}
	return id, err
}

// Canonical returns a UUID in the form of [ID.String], and other text as it is. The case of
// the letters does not matter to the equality of UUIDs.
func Canonical(text string) string {
	if id, err := ParseID(text); err == nil {
		return id.String()
	}
	return text
}

// String returns the canonical form in lower case.
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

// redacted is printed in place of a [Hash].
const redacted = "[redacted]"

// Hash is a key's Argon2id hash as a PHC string. fmt, log/slog and encoding/json always
// print it as "[redacted]", so that a struct with a hash can be logged as a whole. A driver
// converts it with string(h) when it binds it to a statement, and nowhere else.
type Hash string

// String redacts the hash.
func (Hash) String() string { return redacted }

// GoString redacts the hash under %#v.
func (Hash) GoString() string { return redacted }

// Format redacts the hash under every verb, %s and %x included.
func (Hash) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText redacts the hash in JSON and other text encodings.
func (Hash) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue redacts the hash in structured logs.
func (Hash) LogValue() slog.Value { return slog.StringValue(redacted) }

// Key is one system key as the store keeps it. Times are in UTC and exact to
// the microsecond, which is what both databases can hold.
type Key struct {
	ID ID
	// Label is the key's name for people. It is not unique. See [CleanLabel].
	Label string
	// Hash is the Argon2id PHC string of the whole key.
	Hash Hash
	// Permissions is sorted and without duplicates. See [CleanPermissions].
	Permissions []string
	// IsSystem gives every permission of the admin plane. It says nothing
	// about what a proxied request may do.
	IsSystem bool
	// Networks are where the key may be used from. It is nil for a key that may be used from
	// anywhere. See [ParseNetworks].
	Networks  Networks
	CreatedAt time.Time
	// CreatedBy says who minted the key: the id of a key, or a word such as "cli".
	CreatedBy string
	// ExpiresAt is zero for a key that never expires.
	ExpiresAt time.Time
	// Foreign is true for a key that another service minted. Either its row was not written
	// by [Store.CreateKey], or it was created with Foreign set. A foreign key has no tag by
	// which it could be told from other strings; see [Adoption].
	Foreign bool
	// LastUsedAt is zero for a key that was never used.
	LastUsedAt time.Time
	// Replaces is the key whose successor this one is, or zero. That key may be gone.
	Replaces ID
	// ReplacedBy is the newest successor of this key, or zero. The key ends at its expiry,
	// and is deleted soon after that; see [KeyFilter.Retired].
	ReplacedBy ID
	// PlannedExpiry is ExpiresAt as it was before the key was replaced, and Grace is how long
	// the key lives on after the first use of its successor.
	PlannedExpiry time.Time
	Grace         time.Duration
	// Ancestors are the keys from which this one comes by rotations that each key has made
	// of itself, the oldest first. It ends with each of them.
	Ancestors []ID
}

// Imported is what a key has in CreatedBy if it came from a table of another service.
const Imported = "import"

// Imported reports whether the key came from a table of another service. That table may be
// followed; see [View.Unfollowed].
func (k *Key) Imported() bool { return k.Foreign && k.CreatedBy == Imported }

// Expired reports whether the key has expired at now. At its expiry itself a key has expired.
func (k *Key) Expired(now time.Time) bool {
	return !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt)
}

// MaxLabel is the length of the longest label, in characters (code points).
const MaxLabel = 100

// CleanLabel trims white space from both ends and checks the label. It must have 1 to
// [MaxLabel] characters of valid UTF-8. It must have no control characters, no line or
// paragraph separators, and no marks that change the direction of text. It must have a
// visible character, since an admin decides by the label which key to revoke. The error is
// an [*InvalidError] for the field "label".
func CleanLabel(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", &InvalidError{Field: "label", Reason: "must be valid UTF-8"}
	}
	s = strings.TrimSpace(s)
	switch n := utf8.RuneCountInString(s); {
	case n == 0:
		return "", &InvalidError{Field: "label", Reason: "must not be empty"}
	case n > MaxLabel:
		return "", &InvalidError{Field: "label", Reason: "must be at most 100 characters long"}
	}
	if strings.ContainsFunc(s, unprintable) {
		return "", &InvalidError{Field: "label", Reason: "must not contain control characters"}
	}
	if !strings.ContainsFunc(s, visible) {
		return "", &InvalidError{Field: "label", Reason: "must have a character that can be seen"}
	}
	return s, nil
}

// RepairLabel returns the label without the characters that [CleanLabel] refuses, trimmed and
// cut to [MaxLabel] characters. If no visible character is left, it returns "".
func RepairLabel(s string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unprintable(r) {
			return -1
		}
		return r
	}, s))
	if runes := []rune(s); len(runes) > MaxLabel {
		s = strings.TrimSpace(string(runes[:MaxLabel]))
	}
	if !strings.ContainsFunc(s, visible) {
		return ""
	}
	return s
}

// BRAILLE PATTERN BLANK and MUSICAL SYMBOL NULL NOTEHEAD show nothing, although they are of
// a visible category. Unicode lists other such characters, for instance the letter HANGUL
// FILLER, as Default_Ignorable_Code_Point (DerivedCoreProperties.txt).
const (
	blankPattern = '\u2800'
	nullNotehead = '\U0001d159'
)

// visible reports whether a character can be seen by itself. Marks, spaces and format
// characters cannot.
func visible(r rune) bool {
	return unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S) &&
		!unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) && r != blankPattern && r != nullNotehead
}

func unprintable(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control) || r == utf8.RuneError
}
