package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"time"
	"unicode/utf8"
)

// maxBody bounds a request body, in bytes.
const maxBody = 64 << 10

// createInput is the body of a POST.
type createInput struct {
	Label       *string    `json:"label"`
	Permissions []string   `json:"permissions"`
	ExpiresAt   *time.Time `json:"expires_at"`
	IsSystem    bool       `json:"is_system"`
}

// decode reads one JSON object, strictly: unknown and duplicate members, text
// that is not UTF-8 and anything behind the object are refused. Two readers of
// a lenient body can see two different things.
func decode(w http.ResponseWriter, r *http.Request, into any, members ...string) error {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return &problem{
			status: http.StatusUnsupportedMediaType, code: "unsupported_media_type",
			message: "the body must be application/json",
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return &problem{
				status: http.StatusRequestEntityTooLarge, code: "too_large",
				message: fmt.Sprintf("the body must be at most %d bytes long", maxBody),
			}
		}
		return badRequest("the body could not be read")
	}
	if !utf8.Valid(body) {
		return badRequest("the body must be UTF-8")
	}
	if err := checkMembers(body, members); err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(into); err != nil {
		return badRequest("malformed body: " + describe(err))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return badRequest("malformed body: one JSON object is expected")
	}
	return nil
}

// describe puts an error of encoding/json in words that name the member.
func describe(err error) string {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return fmt.Sprintf("%s must not be a %s", wrong.Field, wrong.Value)
	}
	if _, ok := errors.AsType[*time.ParseError](err); ok {
		return "expires_at must be a time of the form 2006-01-02T15:04:05Z (RFC 3339)"
	}
	return err.Error()
}

// checkMembers refuses what encoding/json lets pass: a member that is there
// twice (RFC 8259 section 4), an unknown one, a known one in another case, and
// null or a list in place of the object.
func checkMembers(body []byte, known []string) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	if first, err := decoder.Token(); err != nil || first != json.Delim('{') {
		return badRequest("malformed body: one JSON object is expected")
	}
	seen := make(map[string]bool)
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return badRequest("malformed body: " + err.Error())
		}
		name, _ := token.(string)
		switch {
		case !slices.Contains(known, name):
			return badRequest(fmt.Sprintf("malformed body: unknown field %.100q", name))
		case seen[name]:
			return badRequest(fmt.Sprintf("malformed body: %q is there twice", name))
		}
		seen[name] = true
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return badRequest("malformed body: " + err.Error())
		}
	}
	return nil
}
