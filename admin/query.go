package admin

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Parameters are the parameters of a list, by their names in a query. A GraphQL field has the
// same parameters in another spelling, and the command line has them as flags. So each is
// checked in one place.
type Parameters map[string]string

// parseQuery reads a query. It refuses unknown and repeated parameters. If a mistyped filter
// were ignored, the answer would show more than was asked for. The error is a refusal.
func parseQuery(raw string, allowed ...string) (Parameters, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, BadRequest("malformed query")
	}
	return onlyOnce(values, "parameter", allowed)
}

// onlyOnce refuses an unknown name, and a name that is there twice: readers differ in
// which of the two counts. kind is what a value is called in a message.
func onlyOnce(values url.Values, kind string, allowed []string) (map[string]string, error) {
	once := make(map[string]string, len(allowed))
	for name, all := range values {
		if !slices.Contains(allowed, name) {
			return nil, BadRequest(fmt.Sprintf("unknown %s %.100q", kind, name))
		}
		if len(all) > 1 {
			return nil, BadRequest(name + " is there twice")
		}
		once[name] = all[0]
	}
	return once, nil
}

// keyParameters are those of the list of keys.
var keyParameters = []string{"limit", "cursor", "sort", "q", "unused_since", "expiring_before", "expired"}

// KeyQuery checks the parameters of the list of keys. The error names every wrong parameter, as
// one or more [*store.InvalidError]. Keys that have expired by now are left out, unless the
// parameters ask for them. A cursor belongs to one order: with another one it is wrong.
func KeyQuery(p Parameters, now time.Time) (*store.KeyQuery, error) {
	query := &store.KeyQuery{}
	var errs [7]error
	query.Limit, errs[0] = p.limit()
	query.Sort, query.Desc, errs[1] = p.Sort()
	query.Search, errs[2] = p.Text("q")
	query.UnusedSince, errs[3] = p.time("unused_since")
	query.ExpiringBefore, errs[4] = p.time("expiring_before")
	expired, err := p.flag("expired")
	if errs[5] = err; !expired {
		query.LiveAt = now
	}
	if cursor, ok := p["cursor"]; ok && errs[1] == nil {
		var err error
		if query.After, err = store.DecodeCursor(cursor, query.Sort, query.Desc); err != nil {
			errs[6] = errCursor
		}
	}
	return query, errors.Join(errs[:]...)
}

// The filters of the deletion of many keys, and its other parameters.
var (
	revokeFilters    = []string{"created_by", "created_since", "label_prefix", "permission"}
	revokeParameters = append([]string{"dry_run"}, revokeFilters...)
)

// revokeQuery reads the query of the deletion of many keys. Only except may be there more than
// once. A DELETE has its filter in the query, since a body of one has no meaning (RFC 9110
// section 9.3.5).
func revokeQuery(raw string) (filter *store.KeyFilter, dryRun bool, err error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, false, BadRequest("malformed query")
	}
	except := values["except"]
	delete(values, "except")
	p, err := onlyOnce(values, "parameter", revokeParameters)
	if err != nil {
		return nil, false, err
	}
	if p["dry_run"] != "" { // RevokeFilter refuses it if it is there and empty
		if dryRun, err = Parameters(p).flag("dry_run"); err != nil {
			return nil, false, err
		}
	}
	filter, err = RevokeFilter(p, except)
	return filter, dryRun, err
}

// RevokeFilter checks which keys to revoke. An empty parameter is that of a variable that is
// not set: the caller has not said what it wants, and would lose more than it meant.
func RevokeFilter(p Parameters, except []string) (*store.KeyFilter, error) {
	for name, value := range p {
		if value == "" {
			return nil, BadRequest(name + " must not be empty: leave it out, or say which keys")
		}
	}
	filter := &store.KeyFilter{CreatedBy: store.Canonical(p["created_by"])}
	var errs [4]error
	_, errs[0] = p.Text("created_by")
	filter.CreatedSince, errs[1] = p.time("created_since")
	filter.LabelPrefix, errs[2] = p.Text("label_prefix")
	filter.Permission, errs[3] = p.Text("permission")
	for _, text := range except {
		if text == "" {
			return nil, BadRequest("except must not be empty: leave it out, or name a key")
		}
		id, err := store.ParseKeyID(text)
		if err != nil {
			return nil, &store.InvalidError{Field: "except", Reason: "must be the id of a key, a UUID"}
		}
		filter.Except = append(filter.Except, id)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	if !filter.Any() {
		return nil, BadRequest("at least one of " + strings.Join(revokeFilters, ", ") + " must say which keys")
	}
	return filter, nil
}

// auditParameters are those of the audit log.
var auditParameters = []string{"key_id", "label", "event", "actor", "since", "until", "limit", "cursor"}

// AuditQuery checks the parameters of the audit log. The error names every wrong one.
func AuditQuery(p Parameters) (*store.AuditQuery, error) {
	query := &store.AuditQuery{Event: store.AuditEvent(p["event"])}
	var errs [8]error
	query.Limit, errs[0] = p.limit()
	query.Label, errs[1] = p.filter("label")
	query.Actor, errs[2] = p.filter("actor")
	query.Since, errs[3] = p.time("since")
	query.Until, errs[4] = p.time("until")
	if _, ok := p["event"]; ok && !query.Event.Valid() {
		errs[5] = &store.InvalidError{Field: "event", Reason: "must be one of " + store.AuditEventNames()}
	}
	if text, ok := p["key_id"]; ok {
		var err error
		if query.Key, err = store.ParseKeyID(text); err != nil {
			errs[6] = &store.InvalidError{Field: "key_id", Reason: "must be the id of a key, a UUID"}
		}
	}
	if text, ok := p["cursor"]; ok {
		var err error
		if query.Before, err = store.ParseID(text); err != nil || query.Before == (store.ID{}) {
			errs[7] = errCursor
		}
	}
	query.Actor = store.Canonical(query.Actor)
	return query, errors.Join(errs[:]...)
}

// errCursor is also for a cursor of the same list in another order.
var errCursor = &store.InvalidError{Field: "cursor", Reason: "does not belong to this list"}

// limit reads how many entries a page has, 1 to [store.MaxLimit]. A larger one is refused and
// not cut: a client would take the page for the whole list.
func (p Parameters) limit() (int, error) {
	text, ok := p["limit"]
	if !ok {
		return store.DefaultLimit, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > store.MaxLimit {
		return 0, &store.InvalidError{Field: "limit", Reason: fmt.Sprintf("must be a number from 1 to %d", store.MaxLimit)}
	}
	return limit, nil
}

// SortFields are the columns that the API sorts by. Each has an index. The System page
// has one more.
var SortFields = []store.SortField{store.SortCreatedAt, store.SortLabel, store.SortLastUsedAt, store.SortExpiresAt}

// Sort reads a column. A hyphen in front means descending. By default the newest keys come
// first. The bool says whether the order is descending.
func (p Parameters) Sort() (store.SortField, bool, error) {
	text, ok := p["sort"]
	if !ok {
		return store.SortCreatedAt, true, nil
	}
	name, desc := strings.CutPrefix(text, "-")
	if field := store.SortField(name); slices.Contains(SortFields, field) {
		return field, desc, nil
	}
	return "", false, &store.InvalidError{
		Field: "sort", Reason: "must be one of created_at, label, last_used_at and expires_at, with - in front for descending",
	}
}

// Text reads a text that may be part of a name. The bound is that of the longest label in UTF-8.
// NUL cannot be in a text of PostgreSQL.
func (p Parameters) Text(name string) (string, error) {
	text := p[name]
	if !utf8.ValidString(text) || len(text) > 4*store.MaxLabel || strings.Contains(text, "\x00") {
		return "", &store.InvalidError{Field: name, Reason: "must be text that can be part of a label"}
	}
	return text, nil
}

// filter is [Parameters.Text] that is not empty if it is there. An empty one would match
// everything, which is not what a client meant whose variable is not set.
func (p Parameters) filter(name string) (string, error) {
	if text, ok := p[name]; ok && text == "" {
		return "", &store.InvalidError{Field: name, Reason: "must not be empty: leave it out for all"}
	}
	return p.Text(name)
}

// flag reads true or false. It is false if it is not there.
func (p Parameters) flag(name string) (bool, error) {
	text, ok := p[name]
	if ok && text != "true" && text != "false" {
		return false, &store.InvalidError{Field: name, Reason: "must be true or false"}
	}
	return text == "true", nil
}

// time reads a time. It is zero if it is not there.
func (p Parameters) time(name string) (time.Time, error) {
	text, ok := p[name]
	if !ok {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, &store.InvalidError{Field: name, Reason: "must be a time of the form 2006-01-02T15:04:05Z (RFC 3339)"}
	}
	return at, nil
}
