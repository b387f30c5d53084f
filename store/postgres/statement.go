package postgres

import (
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// access is how the rows of a list are found. We choose it, since the planner only guesses
// how many rows a filter keeps.
type access int

const (
	// walk reads the index of the order, and filters row by row.
	walk access = iota
	// gather finds all rows that the filters keep, then sorts them.
	gather
)

// lastUse orders the keys that were never used before all others.
const lastUse = "coalesce(last_used_at, '-infinity'::timestamptz)"

// expiry orders the keys that never expire after all others.
const expiry = "coalesce(expires_at, 'infinity'::timestamptz)"

// joinedPermissions is a row's permissions with commas between them.
const joinedPermissions = `array_to_string(permissions, ',') COLLATE "C"`

// order has the expression that a list is sorted by. Only the last one has no index.
var order = map[store.SortField]string{
	store.SortCreatedAt:   "created_at",
	store.SortLabel:       `lower(label COLLATE "C")`,
	store.SortLastUsedAt:  lastUse,
	store.SortExpiresAt:   expiry,
	store.SortPermissions: joinedPermissions,
}

// statement is SQL made of the constants in this file, and its arguments.
type statement struct {
	text string
	args []any
}

// bind adds an argument to the statement and returns its placeholder.
func (s *statement) bind(arg any) string {
	s.args = append(s.args, arg)
	return "$" + strconv.Itoa(len(s.args))
}

// pageStatement selects one row more than the page holds. A row has the columns of a key, and
// the rank for [store.KeyPage.Cut]. A walk goes on behind the cursor by a comparison of rows, such
// as (created_at, id) > ($1, $2), for which the index of the order serves
// (https://www.postgresql.org/docs/current/functions-comparisons.html, Row Constructor Comparison).
func pageStatement(query *store.KeyQuery, how access) *statement {
	s := &statement{}
	by := order[query.Sort]
	direction, beyond := "", ">"
	if query.Desc {
		direction, beyond = " DESC", "<"
	}
	source, conditions := "{keys}", s.filters(query, how)
	// The fence of MATERIALIZED keeps the planner from walking the index of the order.
	if how == gather {
		s.text = "WITH found AS MATERIALIZED (SELECT " + columns + " FROM {keys}" + sqlstore.Where(conditions) + ") "
		source, conditions = "found", nil
	}
	if after := query.After; after != nil {
		var place string
		switch query.Sort {
		case store.SortLabel:
			place = "lower(" + s.bind(after.Label) + `::text COLLATE "C")`
		case store.SortPermissions:
			place = s.bind(after.Permissions) + `::text COLLATE "C"`
		case store.SortCreatedAt, store.SortLastUsedAt, store.SortExpiresAt:
			place = s.bind(cursorTime(after))
		}
		conditions = append(conditions, "("+by+", id) "+beyond+" ("+place+", "+s.bind(uuid(after.ID))+")")
	}
	rank := "''"
	if query.Sort == store.SortPermissions {
		rank = joinedPermissions
	}
	s.text += "SELECT " + columns + ", " + rank + " FROM " + source + sqlstore.Where(conditions) +
		" ORDER BY " + by + direction + ", id" + direction + " LIMIT " + s.bind(query.Limit+1)
	return s
}

// countStatement counts the rows that the filters keep, those among them that have expired
// and are left out, and the rows of key_count. Nearly no row has expired, so it takes less
// time to count these than to look at the expiry of all others.
//
// It names system_keys first: TRUNCATE locks the tables in this order.
func countStatement(query *store.KeyQuery) *statement {
	s := &statement{}
	kept, hidden := *query, "SELECT 0::bigint"
	if !query.LiveAt.IsZero() && query.ExpiringBefore.IsZero() {
		kept.LiveAt = time.Time{}
		expired := kept
		expired.Sort, expired.After = store.SortExpiresAt, nil
		hidden = "SELECT count(*) FROM {keys}" + sqlstore.Where(append(s.filters(&expired, walk), expiry+" <= "+s.bind(query.LiveAt)))
	}
	var all string
	switch {
	case !kept.UnusedSince.IsZero() || !kept.ExpiringBefore.IsZero():
		all = "SELECT count(*) FROM {keys}" + sqlstore.Where(s.filters(&kept, gather))
	case kept.Search != "":
		all = "SELECT count(*) FROM {own}.label_search WHERE " + s.contains(&kept)
	default:
		all = "SELECT coalesce(sum(delta), 0)::bigint FROM {own}.key_count"
	}
	s.text = "SELECT kept.n, hidden.n, (SELECT count(*) FROM {own}.key_count) FROM (" + hidden + ") AS hidden (n), (" + all + ") AS kept (n)"
	return s
}

// filters returns the conditions of the query's filters, and binds their arguments.
func (s *statement) filters(query *store.KeyQuery, how access) (conditions []string) {
	// A walk reads the index of the order, from the cursor on if there is one. So the
	// condition that the cursor implies must not be where the walk begins.
	condition := func(text string, of store.SortField, implied bool) {
		if how == walk && (query.Sort != of || implied) {
			text = "(" + text + ") IS TRUE" // a form that no index serves
		}
		conditions = append(conditions, text)
	}
	if query.Search != "" {
		if how == gather {
			conditions = append(conditions,
				"id IN (SELECT id FROM {own}.label_search WHERE "+s.contains(query)+")")
		} else {
			needle := "lower(" + s.bind(query.Search) + `::text COLLATE "C")`
			found := `strpos(lower(label COLLATE "C"), ` + needle + ") > 0"
			if query.SearchesIDs() {
				found = "(" + found + " OR strpos(" + idText + ", " + needle + ") > 0)"
			}
			conditions = append(conditions, found)
		}
	}
	if !query.UnusedSince.IsZero() {
		// The time is rounded up to microseconds, as in the column.
		condition(lastUse+" < "+s.bind(query.UnusedSince.Add(time.Microsecond-1)), store.SortLastUsedAt, false)
	}
	if !query.ExpiringBefore.IsZero() {
		condition(expiry+" < "+s.bind(query.ExpiringBefore.Add(time.Microsecond-1)), store.SortExpiresAt, query.After != nil && query.Desc)
		if query.Unreplaced {
			conditions = append(conditions, "replaced_by IS NULL")
		}
	}
	if !query.LiveAt.IsZero() {
		condition(expiry+" > "+s.bind(query.LiveAt), store.SortExpiresAt, query.After != nil && !query.Desc)
	}
	return conditions
}

// idText is an id as text. Label_search has an index of its trigrams.
const idText = `(id::text COLLATE "C")`

// contains returns the condition that a row of label_search contains the search text.
//
// In some locales the lower case of a letter depends on the letters around it (ICU and the
// Greek sigma). Then the trigrams of a part of a label may not be among those of the label.
// ASCII has no such letters. So a needle with other characters is searched without the
// index.
func (s *statement) contains(query *store.KeyQuery) string {
	needle := query.Search
	if strings.ContainsFunc(needle, func(r rune) bool { return r >= 0x80 }) {
		return "strpos(folded, lower(" + s.bind(needle) + `::text COLLATE "C")) > 0`
	}
	literal := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(needle))
	pattern := s.bind("%" + literal + "%")
	if query.SearchesIDs() {
		return "(folded LIKE " + pattern + " OR " + idText + " LIKE " + pattern + ")"
	}
	return "folded LIKE " + pattern
}

// cursorTime returns the cursor's place in a column of times.
func cursorTime(c *store.Cursor) pgtype.Timestamptz {
	switch {
	case c.Sort == store.SortLastUsedAt && c.At == 0:
		return pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
	case c.At == store.NeverExpires:
		return pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}
	}
	return pgtype.Timestamptz{Time: time.UnixMicro(c.At), Valid: true}
}
