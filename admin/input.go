package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/nesting"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// maxBody bounds a request body, in bytes. The longest good one is that of a new key with all
// its permissions and networks, which is far shorter.
const maxBody = 64 << 10

// CreateInput is the body of a call that creates a key. Label is a pointer, since a label that
// is left out and one that is empty are different mistakes.
type CreateInput struct {
	Label       *string  `json:"label"`
	Permissions []string `json:"permissions"`
	ExpiresAt   *Instant `json:"expires_at"`
	IsSystem    bool     `json:"is_system"`
	Networks    []string `json:"networks"`
}

// Instant is a time whose error names its field.
type Instant struct{ time.Time }

var errInstant = errors.New("expires_at must be a time of the form 2006-01-02T15:04:05Z (RFC 3339)")

// UnmarshalJSON implements [json.Unmarshaler]. The error of package time would show the layouts
// of Go.
func (i *Instant) UnmarshalJSON(b []byte) error {
	if i.Time.UnmarshalJSON(b) != nil {
		return errInstant
	}
	return nil
}

// Key returns the wanted key. It checks only that the label is there. [Service.Create] checks
// the rest.
func (c *CreateInput) Key() (NewKey, error) {
	if c.Label == nil {
		return NewKey{}, &store.InvalidError{Field: "label", Reason: "is required"}
	}
	want := NewKey{Label: *c.Label, Permissions: c.Permissions, IsSystem: c.IsSystem, Networks: c.Networks}
	if c.ExpiresAt != nil {
		if want.ExpiresAt = c.ExpiresAt.Time; want.ExpiresAt.IsZero() {
			want.ExpiresAt = time.Unix(0, 0) // the year 1 is a time like any other that is over
		}
	}
	return want, nil
}

// ReadJSON reads a whole body of a bounded length. It stops at the first level of nesting that
// is too deep: decoders call themselves for each level. The error is a refusal.
func ReadJSON(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	// The announced length is a hint. Chunks have none, and a client may announce what it likes.
	length := min(max(r.ContentLength, 0), limit)
	return readBody(io.TeeReader(http.MaxBytesReader(w, r.Body, limit), new(nesting.Scanner)), int(length))
}

// readBody reads a body, which must be UTF-8. The length is the announced one. Memory for
// more than maxBody is allocated at once, but only after the client has sent that
// much.
func readBody(r io.Reader, length int) ([]byte, error) {
	var b bytes.Buffer
	n, err := io.CopyN(&b, r, maxBody+1)
	if err == nil {
		b.Grow(max(length-int(n), 0) + bytes.MinRead)
		_, err = b.ReadFrom(r)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	body := b.Bytes()
	if errors.Is(err, nesting.ErrDeep) {
		return nil, BadRequest("malformed body: " + err.Error())
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &gate.Refusal{
			Status: http.StatusRequestEntityTooLarge, Code: "too_large",
			Message: fmt.Sprintf("the body must be at most %d bytes long", tooLarge.Limit),
		}
	}
	if refusal, ok := errors.AsType[*gate.Refusal](err); ok { // of a reader that bounds the memory of all bodies
		return nil, refusal
	}
	if err != nil {
		return nil, BadRequest("the body could not be read")
	}
	if !utf8.Valid(body) {
		return nil, BadRequest(notUTF8(body) + " must be UTF-8")
	}
	return body, nil
}

// notUTF8 names the first member of an object that is not valid UTF-8. It says "the
// body" if there is no such member.
func notUTF8(body []byte) string {
	decoder := json.NewDecoder(bytes.NewReader(body))
	_, _ = decoder.Token() // what is no object has no members
	for decoder.More() {
		token, err := decoder.Token()
		name, _ := token.(string)
		var value json.RawMessage
		if err != nil || decoder.Decode(&value) != nil {
			break
		}
		if !utf8.Valid(value) && utf8.ValidString(name) && name != "" {
			return name
		}
	}
	return "the body"
}

// Decode reads one JSON object, strictly. It refuses unknown members, duplicate members at any
// depth, and anything after the object. Otherwise a proxy or a log in front could see another
// call in the body than the one that is made. Members are the names that are allowed at the top.
func Decode(body []byte, into any, members ...string) error {
	if err := checkMembers(body, members); err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return BadRequest("malformed body: " + Describe(err))
	}
	return nil
}

// Describe puts an error of encoding/json in words that name the member. It never names a type
// of Go.
func Describe(err error) string {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return fmt.Sprintf("%s must not be a %s", wrong.Field, wrong.Value)
	}
	return err.Error()
}

// checkMembers refuses what encoding/json accepts: a duplicate member (RFC 8259
// section 4), an unknown member, a known member in another case, and null or a list in
// place of the object. It calls itself for each level. The body must come from
// [ReadJSON], which allows 64 levels.
func checkMembers(body []byte, allowed []string) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	if first, err := decoder.Token(); err != nil || first != json.Delim('{') {
		return BadRequest("malformed body: one JSON object is expected")
	}
	err := eachMember(decoder, func(name string) error {
		if !slices.Contains(allowed, name) {
			return BadRequest(fmt.Sprintf("malformed body: unknown field %.100q", name))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return BadRequest("malformed body: one JSON object is expected")
	}
	return nil
}

// eachMember reads the members of an object. Its opening brace was read before.
func eachMember(decoder *json.Decoder, check func(name string) error) error {
	seen := make(map[string]bool)
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return BadRequest("malformed body: " + err.Error())
		}
		name, _ := token.(string)
		if err := check(name); err != nil {
			return err
		}
		if seen[name] {
			return BadRequest(fmt.Sprintf("malformed body: %.100q is there twice", name))
		}
		seen[name] = true
		if err := skipValue(decoder); err != nil {
			return err
		}
	}
	return readClosing(decoder)
}

// skipValue reads a value of any kind. No object in it may have a member twice.
func skipValue(decoder *json.Decoder) error {
	token, err := decoder.Token()
	if err != nil {
		return BadRequest("malformed body: " + err.Error())
	}
	switch token {
	case json.Delim('{'):
		return eachMember(decoder, func(string) error { return nil })
	case json.Delim('['):
		for decoder.More() {
			if err := skipValue(decoder); err != nil {
				return err
			}
		}
		return readClosing(decoder)
	}
	return nil
}

// readClosing reads the closing bracket of an object or a list. A body may end before it.
func readClosing(decoder *json.Decoder) error {
	if _, err := decoder.Token(); err != nil {
		return BadRequest("malformed body: " + err.Error())
	}
	return nil
}
