package admin

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// parseList reads the query of a list. Unknown and repeated parameters are
// refused: a mistyped filter that is ignored shows more than was asked for.
func parseList(raw string) (*store.KeyQuery, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, badRequest("malformed query")
	}
	known := []string{"limit", "cursor", "sort", "q", "unused_since"}
	for name, all := range values {
		if !slices.Contains(known, name) {
			return nil, badRequest(fmt.Sprintf("unknown parameter %.100q", name))
		}
		if len(all) > 1 {
			return nil, badRequest(name + " is there twice")
		}
	}
	query := &store.KeyQuery{Limit: store.DefaultLimit}
	if text := values.Get("limit"); values.Has("limit") {
		query.Limit, err = strconv.Atoi(text)
		if err != nil || query.Limit < 1 || query.Limit > store.MaxLimit {
			return nil, &store.InvalidError{Field: "limit", Reason: fmt.Sprintf("must be a number from 1 to %d", store.MaxLimit)}
		}
	}
	if query.Sort, query.Desc, err = parseSort(values); err != nil {
		return nil, err
	}
	if query.Search = values.Get("q"); !utf8.ValidString(query.Search) || len(query.Search) > 4*store.MaxLabel ||
		strings.Contains(query.Search, "\x00") {
		return nil, &store.InvalidError{Field: "q", Reason: "must be text that can be part of a label"}
	}
	if text := values.Get("unused_since"); values.Has("unused_since") {
		if query.UnusedSince, err = time.Parse(time.RFC3339, text); err != nil {
			return nil, &store.InvalidError{Field: "unused_since", Reason: "must be a time of the form 2006-01-02T15:04:05Z (RFC 3339)"}
		}
	}
	if text := values.Get("cursor"); values.Has("cursor") {
		if query.After, err = store.DecodeCursor(text, query.Sort, query.Desc); err != nil {
			return nil, &store.InvalidError{Field: "cursor", Reason: "does not belong to this list"}
		}
	}
	return query, nil
}

// parseSort reads a column, with a hyphen in front for descending. The newest
// keys come first by default.
func parseSort(values url.Values) (store.SortField, bool, error) {
	if !values.Has("sort") {
		return store.SortCreatedAt, true, nil
	}
	name, desc := strings.CutPrefix(values.Get("sort"), "-")
	if field := store.SortField(name); field.Valid() {
		return field, desc, nil
	}
	return "", false, &store.InvalidError{
		Field: "sort", Reason: "must be one of created_at, label and last_used_at, with - in front for descending",
	}
}

// nextLink is the same list behind the cursor.
func nextLink(raw string, next *store.Cursor) *link {
	if next == nil {
		return nil
	}
	values, _ := url.ParseQuery(raw) // was parsed before
	values.Set("cursor", next.Encode())
	return &link{Href: keysPath + "?" + values.Encode()}
}
