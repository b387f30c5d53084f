package sqlite

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lumio-vision/caddy-system-keys/internal/sqlstore"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// access is how the rows of a list are found. We choose it, since the planner does not know
// how many rows a filter keeps.
type access int

const (
	// walk reads the index of the order, and filters row by row.
	walk access = iota
	// byLastUse finds the rows in the index by last use, then sorts them.
	byLastUse
	// byExpiry finds the rows in the index by expiry, then sorts them.
	byExpiry
	// byTrigrams finds the rows in the index of trigrams, then sorts them.
	byTrigrams
)

// selective returns the access that uses an index for one of the query's filters, if there is
// one. A search of fewer than three characters has no trigram. The index by last use serves only
// a query without a search.
func selective(query *store.KeyQuery) access {
	switch {
	case utf8.RuneCountInString(query.Search) >= 3:
		return byTrigrams
	case !query.ExpiringBefore.IsZero():
		return byExpiry
	case query.Search == "" && !query.UnusedSince.IsZero():
		return byLastUse
	}
	return walk
}

// joinedPermissions is a row's permissions with commas between them. It is the JSON without
// brackets and quotes: no permission contains one.
const joinedPermissions = `replace(trim(json(permissions), '[]'), '"', '')`

// order is what a list is sorted by, and the index of that order, if it has one.
var order = map[store.SortField]struct{ expression, index string }{
	store.SortCreatedAt:   {"created_at", "system_keys_by_created_at"},
	store.SortLabel:       {"folded", "system_keys_by_label"},
	store.SortLastUsedAt:  {"last_used_at", "system_keys_by_last_used_at"},
	store.SortExpiresAt:   {"ends_at", "system_keys_by_expires_at"},
	store.SortPermissions: {joinedPermissions, ""},
}

// statement is SQL made of the constants in this file, and its arguments.
type statement struct {
	text string
	args []any
}

// pageStatement selects one row more than the page holds. A row has the columns of a key,
// and the rank for [store.KeyPage.Cut].
func pageStatement(query *store.KeyQuery, how access) statement {
	by := order[query.Sort]
	if how == byLastUse && query.Sort == store.SortLastUsedAt || how == byExpiry && query.Sort == store.SortExpiresAt {
		how = walk // the same index, and nothing to sort
	}
	direction, beyond := "", ">"
	if query.Desc {
		direction, beyond = " DESC", "<"
	}
	if how != walk {
		// The unary plus keeps the planner from using the index of the order.
		by.expression = "+" + by.expression
	}
	from, where, args := filters(query, how, by.index)
	if after := query.After; after != nil {
		place := "?"
		var value any = after.At
		switch query.Sort {
		case store.SortLabel:
			place, value = "lower(?)", after.Label
		case store.SortPermissions:
			value = after.Permissions
		case store.SortCreatedAt, store.SortLastUsedAt, store.SortExpiresAt:
		}
		// A walk goes on behind the cursor by a comparison of rows, since the id is the second
		// column of the index (https://sqlite.org/rowvalue.html, Scrolling Window Queries).
		where = append(where, "("+by.expression+", id) "+beyond+" ("+place+", ?)")
		args = append(args, value, after.ID.String())
	}
	rank := "''"
	if query.Sort == store.SortPermissions {
		rank = joinedPermissions
	}
	return statement{
		text: "SELECT " + columns + ", " + rank + " FROM " + from + sqlstore.Where(where) +
			" ORDER BY " + by.expression + direction + ", id" + direction + " LIMIT ?",
		args: append(args, query.Limit+1),
	}
}

// countStatement counts the rows that the filters keep. Unless atMost is 0, it stops there. For a
// walk it takes an index that has the column of the filter: that of the labels for a search, and
// else that of the last use.
func countStatement(query *store.KeyQuery, how access, atMost int) statement {
	index := "system_keys_by_label"
	if query.Search == "" {
		index = "system_keys_by_last_used_at"
	}
	from, where, args := filters(query, how, index)
	return counting(from, where, args, atMost)
}

// hiddenStatement counts the rows that the filters keep, and that have expired at a time.
func hiddenStatement(query *store.KeyQuery, at time.Time) statement {
	from, where, args := filters(query, byExpiry, "")
	return counting(from, append(where, "ends_at <= ?"), append(args, at.UnixMicro()), 0)
}

// counting wraps conditions into a count, which stops at atMost unless that is 0.
func counting(from string, where []string, args []any, atMost int) statement {
	text := "SELECT 1 FROM " + from + sqlstore.Where(where)
	if atMost > 0 {
		text += " LIMIT ?"
		args = append(args, atMost)
	}
	return statement{"SELECT count(*) FROM (" + text + ")", args}
}

// filters returns the source of the rows, the conditions of the query's filters, and the
// arguments of both in the order of the statement.
func filters(query *store.KeyQuery, how access, index string) (from string, where []string, args []any) {
	switch how {
	case byTrigrams:
		// CROSS JOIN keeps the order of the tables (https://sqlite.org/optoverview.html), so a count
		// that stops at a limit has read no more matches than it needs.
		from = "(SELECT rowid AS match FROM label_search WHERE label_search MATCH ?) CROSS JOIN system_keys ON rid = match"
		// This is one string in the syntax of https://sqlite.org/fts5.html section 3.1.
		match := `"` + strings.ReplaceAll(query.Search, `"`, `""`) + `"`
		if !query.SearchesIDs() {
			match = "label : " + match
		}
		args = append(args, match)
	case byLastUse:
		from = "system_keys INDEXED BY system_keys_by_last_used_at"
	case byExpiry:
		from = "system_keys INDEXED BY system_keys_by_expires_at"
	case walk:
		from = "system_keys NOT INDEXED" // the whole table is read
		if index != "" {
			from = "system_keys INDEXED BY " + index
		}
	}
	if query.Search != "" {
		// The index of trigrams folds the case of all letters, and not of ASCII alone. So it finds
		// too many rows, and the text is compared after it too.
		found := "instr(folded, lower(?)) > 0"
		args = append(args, query.Search)
		if query.SearchesIDs() {
			found = "(" + found + " OR instr(id, lower(?)) > 0)"
			args = append(args, query.Search)
		}
		where = append(where, found)
	}
	if !query.UnusedSince.IsZero() {
		where = append(where, "last_used_at < ?")
		// The time is rounded up to microseconds, as in the column. It is at least 1, so
		// that a key that was never used (0) is always kept.
		args = append(args, max(1, query.UnusedSince.Add(time.Microsecond-1).UnixMicro()))
	}
	// A walk begins at the cursor, if there is one, and not at what the cursor implies. The
	// unary plus is as in pageStatement.
	ends := func(implied bool) string {
		if implied && query.After != nil {
			return "+ends_at"
		}
		return "ends_at"
	}
	if !query.ExpiringBefore.IsZero() {
		where = append(where, ends(query.Desc)+" < ?")
		args = append(args, query.ExpiringBefore.Add(time.Microsecond-1).UnixMicro())
		if query.Unreplaced {
			where = append(where, "replaced_by IS NULL")
		}
	}
	if !query.LiveAt.IsZero() {
		where = append(where, ends(!query.Desc)+" > ?")
		args = append(args, query.LiveAt.UnixMicro())
	}
	return from, where, args
}
