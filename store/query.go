package store

import (
	"encoding/base64"
	"errors"
	"fmt"
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

// SortField is the column by which a list of keys is ordered. Rows that are
// equal in it are ordered by id, in the same direction.
type SortField string

// The columns that a list can be sorted by.
const (
	SortCreatedAt SortField = "created_at"
	// SortLabel compares labels byte by byte with ASCII letters folded to lower
	// case, so that both databases agree whatever their locale.
	SortLabel SortField = "label"
	// SortLastUsedAt puts keys that were never used before all others.
	SortLastUsedAt SortField = "last_used_at"
	// SortPermissions compares permissions byte by byte, in the order of the row,
	// joined by commas; keys without any come first. No index has this order: a
	// page of a list by it costs time in proportion to the number of keys, a second
	// or two at a million. The API does not offer it.
	SortPermissions SortField = "permissions"
)

// Valid reports whether f is one of the columns above.
func (f SortField) Valid() bool {
	return f == SortCreatedAt || f == SortLabel || f == SortLastUsedAt || f == SortPermissions
}

// KeyQuery asks for one page of keys.
type KeyQuery struct {
	// Limit is how many keys at most, 1 to [MaxLimit].
	Limit int
	// Sort is the order; Desc turns it round.
	Sort SortField
	Desc bool
	// After is the place behind which the page starts, or nil for the first.
	After *Cursor
	// Search keeps keys whose label contains it, ASCII letters in any case.
	// Empty keeps all.
	Search string
	// UnusedSince keeps keys that were not used at or after this time, those
	// never used included. Zero keeps all.
	UnusedSince time.Time
}

// Check reports what no list can answer: a limit out of bounds, or an order
// that there is not.
func (q *KeyQuery) Check() error {
	if q.Limit < 1 || q.Limit > MaxLimit {
		return fmt.Errorf("limit %d is not between 1 and %d", q.Limit, MaxLimit)
	}
	if !q.Sort.Valid() {
		return fmt.Errorf("there is no order by %q", string(q.Sort))
	}
	return nil
}

// Possible reports whether a label could contain what is searched for. A database
// may refuse to look for other text.
func (q *KeyQuery) Possible() bool { return storable(q.Search) }

// storable reports whether a text could be in a row: it is UTF-8 without NUL.
func storable(text string) bool { return utf8.ValidString(text) && !strings.ContainsRune(text, 0) }

// Cursor is a place in an ordered list of keys: behind the key with this id
// and this value in the sorted column. It stays good when that key is deleted.
type Cursor struct {
	Sort SortField
	Desc bool
	// Label is set when the list is sorted by label, as it stands in the row.
	Label string
	// Permissions is set when the list is sorted by permissions, as the store has
	// ordered the row: another program may have written them in any order.
	Permissions string
	// At is set for the two times, in microseconds since the Unix epoch; zero
	// for a key that was never used.
	At int64
	ID ID
}

// ErrBadCursor reports a cursor that was not made by [Cursor.Encode], or that
// belongs to a list in another order.
var ErrBadCursor = errors.New("the cursor does not belong to this list")

// CursorAt is the place behind k in a list of this order.
func CursorAt(k *Key, sort SortField, desc bool) *Cursor {
	c := &Cursor{Sort: sort, Desc: desc, ID: k.ID}
	switch sort {
	case SortLabel:
		c.Label = k.Label
	case SortLastUsedAt:
		if !k.LastUsedAt.IsZero() {
			c.At = k.LastUsedAt.UnixMicro()
		}
	case SortCreatedAt:
		c.At = k.CreatedAt.UnixMicro()
	case SortPermissions:
		c.Permissions = strings.Join(k.Permissions, ",")
	}
	return c
}

// Encode gives the cursor as an opaque word for a URL. A cursor has one.
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

// maxCursor is more than the length of any cursor: that of a key with as many and
// as long permissions as can be has some nine thousand bytes.
const maxCursor = 16 << 10

// DecodeCursor reads what [Cursor.Encode] wrote and checks that it belongs to a
// list of this order. Anything else is [ErrBadCursor].
func DecodeCursor(s string, sort SortField, desc bool) (*Cursor, error) {
	if len(s) > maxCursor {
		return nil, ErrBadCursor
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, ErrBadCursor
	}
	v, _ := url.ParseQuery(string(b)) // what is wrong with any of it is not encoded like this
	c := Cursor{Sort: SortField(v.Get("s")), Desc: v.Get("d") == "1", Label: v.Get("l"), Permissions: v.Get("p")}
	c.At, _ = strconv.ParseInt(v.Get("t"), 10, 64)
	c.ID, _ = ParseID(v.Get("i"))
	if c.Encode() != s || c.Sort != sort || c.Desc != desc || !c.possible() {
		return nil, ErrBadCursor
	}
	return &c, nil
}

// possible reports whether a row could be in the cursor's place. A database
// refuses other text, and times beyond its calendar.
func (c *Cursor) possible() bool {
	year := time.UnixMicro(c.At).UTC().Year()
	return storable(c.Label+c.Permissions) && year >= 1 && year <= 9999
}

// KeyPage is one page of a list.
type KeyPage struct {
	Keys []Key
	// Total counts every key that the query's filters keep, on all pages.
	Total int
	// Next is the place behind the last key, or nil on the last page.
	Next *Cursor
	// Prev is the place of the first key in the same list turned round, or nil on
	// an empty page: a query with the other direction that goes on there gives the
	// page before, in reverse. On the first page that is an empty one.
	Prev *Cursor
}

// Cut makes the page of the rows that a driver has read into Keys, one more than
// the query's limit where there are more. For [SortPermissions] ranks are what
// each row was ordered by; else they are not looked at.
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
