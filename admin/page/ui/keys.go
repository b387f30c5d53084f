package ui

import "github.com/lumio-vision/caddy-system-keys/store"

// PageSize is how many keys a page has.
const PageSize = 25

// UnusedDays is what "unused for a while" means.
const UnusedDays = 90

// Values of [State.Expiry]: keys that expire within [SoonDays], and keys that have expired.
const (
	ExpirySoon = "soon"
	ExpiryOver = "over"
)

// Key is a row of the list of keys.
type Key struct {
	*store.Key
	// Own says that the admin is signed in by this key.
	Own bool
	// Successor is the key that has replaced this one, and Predecessor the one that this one
	// replaces. They are nil if there is none, or none any more.
	Successor, Predecessor *store.Key
	// Rotatable says that the admin can rotate the key.
	Rotatable bool
}

// Folded is a list of which a row shows the beginning. The admin unfolds the rest.
type Folded struct{ Shown, More []string }

// maxShown is how many elements are shown, "and 2 more" being one of them.
const maxShown = 5

func fold(all []string) Folded {
	if len(all) <= maxShown {
		return Folded{Shown: all}
	}
	return Folded{all[:maxShown-1], all[maxShown-1:]}
}

// FoldedPermissions are the permissions of the key.
func (k Key) FoldedPermissions() Folded { return fold(k.Permissions) }

// FoldedNetworks are the networks of the key.
func (k Key) FoldedNetworks() Folded { return fold(k.Networks.Strings()) }

// Keys is the card with the list of keys.
type Keys struct {
	State State
	Keys  []Key
	// Total counts the keys on all pages that match the filters.
	Total int
	// Next and Prev are the cursors of the next and the previous page, or empty.
	Next, Prev string
	// MayRead, MayCreate, MayRevoke and MayAudit say what the admin can do.
	MayRead, MayCreate, MayRevoke, MayAudit bool
	// Fault says why there is no list: a key of the texts below "problem.". It is
	// empty if there is a list.
	Fault string
}

func (Keys) template() string { return "keys" }
func (Keys) title() string    { return "title.system" }

// Pages is how many pages there are.
func (k Keys) Pages() int { return max(1, (k.Total+PageSize-1)/PageSize) }

// Number is the number of this page.
func (k Keys) Number() int { return min(max(1, k.State.Page), k.Pages()) }

// Filtered reports whether a filter hides some keys.
func (k Keys) Filtered() bool {
	return k.State.Search != "" || k.State.Unused != 0 || k.State.Expiry != ""
}

// NextURL leads to the next page.
func (k Keys) NextURL() string {
	s := k.State.first()
	s.Page, s.After = k.Number()+1, k.Next
	return s.URL()
}

// PrevURL leads to the previous page. The first page has no cursor, since there may be
// newer keys by now.
func (k Keys) PrevURL() string {
	s := k.State.first()
	if s.Page = k.Number() - 1; s.Page > 1 {
		s.Before = k.Prev
	}
	return s.URL()
}

// FirstURL leads to the first page.
func (k Keys) FirstURL() string { return k.State.first().URL() }

// LastURL leads to the last page.
func (k Keys) LastURL() string {
	s := k.State.first()
	s.Page, s.Before = k.Pages(), End
	return s.URL()
}

// FarFromEnd reports whether the last page is not the next one.
func (k Keys) FarFromEnd() bool { return k.Next != "" && k.Number()+1 < k.Pages() }

// LastRows is how many rows the last page has.
func (k Keys) LastRows() int { return k.Total - (k.Pages()-1)*PageSize }

// AllURL is the list without filters.
func (k Keys) AllURL() string {
	s := k.State.first()
	s.Search, s.Unused, s.Expiry = "", 0, ""
	return s.URL()
}

// ActivityURL shows the records of a key in the audit card.
func (k Keys) ActivityURL(id store.ID) string {
	s := k.State
	s.Activity, s.Event, s.Older = id.String(), "", ""
	return s.URL() + "#audit"
}

// Column is a column of the list.
type Column struct {
	// Name is the column's name in the API.
	Name string
	// URL is the list sorted by the column. It is empty if the list cannot be.
	URL string
	// Sorted is the direction of aria-sort, or empty.
	Sorted string
}

// Columns are the columns of the list, in their order.
func (k Keys) Columns() []Column {
	names := []string{"label", "permissions", "networks", "created_at", "last_used_at", "expires_at"}
	columns := make([]Column, 0, len(names))
	for _, name := range names {
		c := Column{Name: name}
		if name != "networks" {
			c.URL = k.State.sorted(name).URL()
		}
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
