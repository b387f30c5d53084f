package ui

import "github.com/lumio-vision/caddy-system-keys/store"

// PageSize is how many keys a page has.
const PageSize = 25

// UnusedDays is what "unused for a while" means.
const UnusedDays = 90

// Key is a row of the list of keys.
type Key struct {
	*store.Key
	// Own says that the admin is signed in by this key.
	Own bool
}

// Keys is the card with the list of keys.
type Keys struct {
	State State
	Keys  []Key
	// Total counts the keys on all pages, as the filters keep them.
	Total int
	// Next and Prev are the cursors of the pages around, or empty.
	Next, Prev string
	// MayRead, MayCreate, MayRevoke and MayAudit say what the admin can do.
	MayRead, MayCreate, MayRevoke, MayAudit bool
	// Fault, if it is not empty, says why there is no list: a key of the texts
	// below "problem.".
	Fault string
}

func (Keys) template() string { return "keys" }
func (Keys) title() string    { return "title.system" }

// Pages is how many pages there are.
func (k Keys) Pages() int { return max(1, (k.Total+PageSize-1)/PageSize) }

// Number is which of them this is.
func (k Keys) Number() int { return min(max(1, k.State.Page), k.Pages()) }

// Filtered reports whether some keys may not be shown.
func (k Keys) Filtered() bool { return k.State.Search != "" || k.State.Unused != 0 }

// NextURL and PrevURL lead to the pages around.
func (k Keys) NextURL() string {
	s := k.State.first()
	s.Page, s.After = k.Number()+1, k.Next
	return s.URL()
}

// PrevURL is the one before. The first page is the one without a cursor: there may
// be more keys before it by now.
func (k Keys) PrevURL() string {
	s := k.State.first()
	if s.Page = k.Number() - 1; s.Page > 1 {
		s.Before = k.Prev
	}
	return s.URL()
}

// AllURL is the list without filters.
func (k Keys) AllURL() string {
	s := k.State.first()
	s.Search, s.Unused = "", 0
	return s.URL()
}

// ActivityURL shows the records of a key in the audit card.
func (k Keys) ActivityURL(id store.ID) string {
	s := k.State
	s.Activity, s.Event, s.Older = id.String(), "", ""
	return s.URL() + "#audit"
}

// Column is one by which the list can be sorted.
type Column struct {
	// Name is what the API calls it.
	Name string
	URL  string
	// Sorted is the direction of aria-sort, or empty.
	Sorted string
}

// Columns are all of them, in their order.
func (k Keys) Columns() []Column {
	columns := make([]Column, 0, 4)
	for _, name := range []string{"label", "permissions", "created_at", "last_used_at"} {
		c := Column{Name: name, URL: k.State.sorted(name).URL()}
		switch k.State.Sort {
		case name:
			c.Sorted = "ascending"
		case "-" + name:
			c.Sorted = "descending"
		}
		columns = append(columns, c)
	}
	return columns
}
