package store

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of [KeyQuery.Limit].
const (
	DefaultLimit = 25
	MaxLimit     = 100
)

// SortField is the column by which a list of keys is ordered. Rows with equal values are
// ordered by id, in the same direction.
type SortField string

// The columns that a list can be sorted by.
const (
	SortCreatedAt SortField = "created_at"
	// SortLabel compares labels byte by byte, with ASCII letters in lower case. So both
	// databases have the same order in every locale.
	SortLabel SortField = "label"
	// SortLastUsedAt puts keys that were never used before all others.
	SortLastUsedAt SortField = "last_used_at"
	// SortExpiresAt puts keys that never expire after all others.
	SortExpiresAt SortField = "expires_at"
	// SortPermissions compares permissions byte by byte, joined by commas in the order of
	// the row. Keys without permissions come first. No index has this order: a page takes
	// time in proportion to the number of keys, a second or two with a million. The API does
	// not offer it.
	SortPermissions SortField = "permissions"
)

// Valid reports whether f is one of the columns above.
func (f SortField) Valid() bool {
	return f == SortCreatedAt || f == SortLabel || f == SortLastUsedAt || f == SortExpiresAt || f == SortPermissions
}

// KeyQuery asks for one page of keys.
type KeyQuery struct {
	// Limit is the size of a page, 1 to [MaxLimit].
	Limit int
	// Sort is the order. Desc reverses it.
	Sort SortField
	Desc bool
	// After is the place after which the page starts, or nil for the first page.
	After *Cursor
	// Search keeps keys whose label contains this text, or whose id does; see
	// [KeyQuery.SearchesIDs]. The case of ASCII letters does not matter. An empty text keeps
	// all keys.
	Search string
	// UnusedSince keeps keys that were not used at or after this time, or never. Zero keeps
	// all keys.
	UnusedSince time.Time
	// ExpiringBefore keeps keys that expire before this time. Zero keeps all keys.
	ExpiringBefore time.Time
	// Unreplaced leaves out, of the keys that expire before a time, those that have a
	// successor. It counts only beside ExpiringBefore.
	Unreplaced bool
	// LiveAt keeps keys that have not expired at this time. Zero keeps all keys.
	LiveAt time.Time
}

// Check returns an error if the limit is out of bounds or the order is unknown.
func (q *KeyQuery) Check() error {
	if q.Limit < 1 || q.Limit > MaxLimit {
		return fmt.Errorf("limit %d is not between 1 and %d", q.Limit, MaxLimit)
	}
	if !q.Sort.Valid() {
		return fmt.Errorf("there is no order by %q", string(q.Sort))
	}
	return nil
}

// minIDPart is how long a part of an id must be to find it. Shorter ones are in the ids of
// many keys: whoever looks for the label "bot 7" by its number would find all of them.
const minIDPart = 4

// SearchesIDs reports whether the search text is looked for in ids too, beside labels. That
// is any text of at least four characters that an id could contain.
func (q *KeyQuery) SearchesIDs() bool {
	return len(q.Search) >= minIDPart && strings.Trim(q.Search, "0123456789abcdefABCDEF-") == ""
}

// Possible reports whether a label could contain the search text. A database may refuse to
// search for other text.
func (q *KeyQuery) Possible() bool { return storable(q.Search) }

// storable reports whether a row could hold a text: it must be UTF-8 without NUL.
func storable(text string) bool { return utf8.ValidString(text) && !strings.ContainsRune(text, 0) }

// Cursor is a place in an ordered list of keys: after the key with this id and this value in
// the sorted column. It stays valid when that key is deleted.
type Cursor struct {
	Sort SortField
	Desc bool
	// Label is set if the list is sorted by label. It is the label as in the row.
	Label string
	// Permissions is set if the list is sorted by permissions. It is the value that the
	// store has sorted by: another program may have written permissions in any order.
	Permissions string
	// At is set if the list is sorted by a time. It is in microseconds since the Unix epoch,
	// zero for a key that was never used, and [NeverExpires] for a key that never expires.
	At int64
	ID ID
}

// NeverExpires is [Cursor.At] in a list by expiry, after every time.
const NeverExpires = math.MaxInt64

// ErrBadCursor means that a cursor was not made by [Cursor.Encode], or belongs to a list in
// another order.
var ErrBadCursor = errors.New("the cursor does not belong to this list")

// CursorAt returns the place after k in a list of this order.
func CursorAt(k *Key, sort SortField, desc bool) *Cursor {
	c := &Cursor{Sort: sort, Desc: desc, ID: k.ID}
	switch sort {
	case SortLabel:
		c.Label = k.Label
	case SortLastUsedAt:
		if !k.LastUsedAt.IsZero() {
			c.At = k.LastUsedAt.UnixMicro()
		}
	case SortExpiresAt:
		c.At = NeverExpires
		if !k.ExpiresAt.IsZero() {
			c.At = k.ExpiresAt.UnixMicro()
		}
	case SortCreatedAt:
		c.At = k.CreatedAt.UnixMicro()
	case SortPermissions:
		c.Permissions = strings.Join(k.Permissions, ",")
	}
	return c
}

// Encode returns the cursor as an opaque word for a URL. Equal cursors give the same word.
func (c *Cursor) Encode() string {
	v := url.Values{"s": {string(c.Sort)}, "i": {c.ID.String()}}
	if c.Desc {
		v.Set("d", "1")
	}
	if c.Label != "" {
		v.Set("l", c.Label)
	}
	if c.Permissions != "" {
		v.Set("p", c.Permissions)
	}
	if c.At != 0 {
		v.Set("t", strconv.FormatInt(c.At, 10))
	}
	return base64.RawURLEncoding.EncodeToString([]byte(v.Encode()))
}

// maxCursor is more than the length of any cursor. The longest one is that of a key with the
// most and longest permissions, some 9,000 bytes.
const maxCursor = 16 << 10

// DecodeCursor reads a word from [Cursor.Encode] and checks that it belongs to a list of this
// order. If not, the error is [ErrBadCursor].
func DecodeCursor(s string, sort SortField, desc bool) (*Cursor, error) {
	if len(s) > maxCursor {
		return nil, ErrBadCursor
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, ErrBadCursor
	}
	// Errors of parsing need no check: a cursor with a mistake does not encode to s again.
	v, _ := url.ParseQuery(string(b))
	c := Cursor{Sort: SortField(v.Get("s")), Desc: v.Get("d") == "1", Label: v.Get("l"), Permissions: v.Get("p")}
	c.At, _ = strconv.ParseInt(v.Get("t"), 10, 64)
	c.ID, _ = ParseID(v.Get("i"))
	if c.Encode() != s || c.Sort != sort || c.Desc != desc || !c.possible() {
		return nil, ErrBadCursor
	}
	return &c, nil
}

// possible reports whether a row could be at the cursor's place. A database refuses other
// text, and times beyond its calendar.
func (c *Cursor) possible() bool {
	year := time.UnixMicro(c.At).UTC().Year()
	never := c.Sort == SortExpiresAt && c.At == NeverExpires
	return storable(c.Label+c.Permissions) && (never || year >= 1 && year <= 9999)
}

// KeyPage is one page of a list.
type KeyPage struct {
	Keys []Key
	// Total is the number of keys that the query's filters keep, on all pages.
	Total int
	// Next is the place after the last key, or nil on the last page.
	Next *Cursor
	// Prev is the place of the first key in the reversed list, or nil on an empty page. A
	// query after it in the other direction returns the previous page, in reverse order. On
	// the first page that is an empty page.
	Prev *Cursor
}

// Cut makes a page of the rows that a driver has read into Keys. If there are more rows than
// the limit, the driver must have read one more. For [SortPermissions], ranks has the value
// that each row was ordered by. Otherwise Cut does not use ranks.
func (p *KeyPage) Cut(query *KeyQuery, ranks []string) {
	if len(p.Keys) == 0 {
		return
	}
	place := func(i int, desc bool) *Cursor {
		cursor := CursorAt(&p.Keys[i], query.Sort, desc)
		if query.Sort == SortPermissions {
			cursor.Permissions = ranks[i]
		}
		return cursor
	}
	p.Prev = place(0, !query.Desc)
	if len(p.Keys) > query.Limit {
		p.Next = place(query.Limit-1, query.Desc)
		p.Keys = p.Keys[:query.Limit]
	}
}
