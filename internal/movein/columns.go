package movein

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// ErrSameTable means that the table to read is the one that the target keeps its keys in.
var ErrSameTable = errors.New("this is the table of the store itself")

// Column says in which column of the other table a part of a key is. Before [Lay] it says where
// it is expected, and afterwards where it is.
type Column struct {
	// Ours is our name, as in [Problem], and Theirs the name in the other table. Theirs is
	// empty if an optional column is not there.
	Ours, Theirs string
	// Optional columns may be missing, if nobody has named them.
	Optional bool
	// Time columns hold times.
	Time bool
	// Kind is the kind of the other column, once it was found.
	Kind string
}

// Columns returns the columns in the order of [Row], with the names that are expected in the
// other table. Mapped has the names that differ, by our name. A column that was named must be
// there, even if it is optional by default. Columns takes out of mapped what it has used.
func Columns(mapped map[string]string) ([]Column, error) {
	columns := []Column{
		{Ours: "id", Theirs: "id"},
		{Ours: "label", Theirs: "label"},
		{Ours: "hash", Theirs: "key_hash"},
		{Ours: "permissions", Theirs: "permissions"},
		{Ours: "created_at", Theirs: "created_at", Optional: true, Time: true},
		{Ours: "last_used_at", Theirs: "last_used_at", Optional: true, Time: true},
		{Ours: "expires_at", Theirs: "expires_at", Optional: true, Time: true},
	}
	names := make([]string, len(columns))
	for i := range columns {
		c := &columns[i]
		names[i] = c.Ours
		if theirs, ok := mapped[c.Ours]; ok {
			c.Theirs, c.Optional = theirs, false
			delete(mapped, c.Ours)
		}
	}
	for ours := range mapped {
		return nil, fmt.Errorf("there is no %q: the names are %s", ours, strings.Join(names, ", "))
	}
	for i, c := range columns {
		if slices.ContainsFunc(columns[:i], func(before Column) bool { return before.Theirs == c.Theirs }) {
			return nil, fmt.Errorf("the column %q is read twice", c.Theirs)
		}
	}
	return columns, nil
}

// Source says what is read.
type Source struct {
	// Table is its name as in SQL, with its schema.
	Table   string
	Columns []Column
	// Target is the store that the keys go to. Its own table is refused.
	Target store.Store
	// Follow says that the table is to be followed. If it cannot be, it is refused.
	Follow bool
	// Found is called before the first row.
	Found func(layout Layout)
}

// Layout is what was found of a table.
//
// Unread columns are worth a look: one of them may say that a row is not valid any more.
type Layout struct {
	// Table is its full name, quoted where need be, and Schema and Name are its parts.
	Table, Schema, Name string

	Columns []Column
	// Unread are the columns of the table that nobody asked for.
	Unread []string
}

// TheirColumn is a column that the other table has.
type TheirColumn struct {
	Name, Type string
	IsTime     bool
	// Kind is "array", the name of a type that every database has, such as uuid or jsonb, or
	// empty for other types.
	Kind string
}

// Lay finds the columns in the table that has these. The error names what is missing, and how to
// say where it is. The columns of the call are not changed.
func Lay(table string, columns []Column, theirs []TheirColumn) (Layout, error) {
	layout := Layout{Table: table, Columns: slices.Clone(columns)}
	names := make([]string, len(theirs))
	for i, column := range theirs {
		names[i] = column.Name
		if !slices.ContainsFunc(columns, func(c Column) bool { return c.Theirs == column.Name }) {
			layout.Unread = append(layout.Unread, column.Name)
		}
	}
	for i := range layout.Columns {
		c := &layout.Columns[i]
		at := slices.Index(names, c.Theirs)
		switch {
		case at < 0 && c.Optional:
			c.Theirs = ""
		case at < 0:
			return layout, fmt.Errorf("%s has no column %q for %s: use --map %s=COLUMN, with one of %s",
				table, c.Theirs, c.Ours, c.Ours, strings.Join(names, ", "))
		case c.Time && !theirs[at].IsTime:
			return layout, fmt.Errorf("the column %q of %s, for %s, is %s: a timestamp or a date is needed",
				c.Theirs, table, c.Ours, theirs[at].Type)
		default:
			c.Kind = theirs[at].Kind
		}
	}
	return layout, nil
}

// Followed says which table of another service is followed.
type Followed struct {
	// Table is its full name, quoted where need be.
	Table string    `json:"table"`
	Since time.Time `json:"since"`
	// Carried reports whether all its changes get here. If not, the keys that came from it
	// are not accepted.
	Carried bool `json:"carried"`
	// Unfit is how many of its rows do not fit.
	Unfit int `json:"unfit"`
}
