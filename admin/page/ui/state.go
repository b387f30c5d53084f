package ui

import (
	"net/url"
	"strconv"
)

// State is what an admin is looking at. It is all in the URL, so that the page
// works without scripts and can be bookmarked. Cursors are opaque.
type State struct {
	// Sort is a column, with a hyphen in front for descending.
	Sort   string
	Search string
	// Unused shows only keys that were not used for so many days. 0 shows all keys.
	Unused int
	// Expiry is one of [ExpirySoon] and [ExpiryOver], or empty for all keys that have not
	// expired.
	Expiry string
	// Page is the number of the page of keys, from 1, behind After or before Before.
	Page          int
	After, Before string
	// Activity shows only records of the key with this id, and Event only records of
	// one kind. Older is the cursor of their page.
	Activity, Event, Older string
}

// DefaultSort shows the newest keys first.
const DefaultSort = "-created_at"

// End is the value of [State.Before] for the last page.
const End = "end"

// The names of the parameters.
const (
	ParamSort     = "sort"
	ParamSearch   = "q"
	ParamUnused   = "unused"
	ParamExpiry   = "expiry"
	ParamPage     = "page"
	ParamAfter    = "after"
	ParamBefore   = "before"
	ParamActivity = "activity"
	ParamEvent    = "event"
	ParamOlder    = "older"
	ParamLanguage = "lang"
)

// Parameter is a parameter of a query.
type Parameter struct{ Name, Value string }

// parameters are the parameters of the state, without those that have the default
// value.
func (s State) parameters() []Parameter {
	var all []Parameter
	add := func(name, value, normal string) {
		if value != normal {
			all = append(all, Parameter{name, value})
		}
	}
	add(ParamSort, s.Sort, DefaultSort)
	add(ParamSearch, s.Search, "")
	add(ParamUnused, strconv.Itoa(s.Unused), "0")
	add(ParamExpiry, s.Expiry, "")
	add(ParamPage, strconv.Itoa(s.Page), "1")
	add(ParamAfter, s.After, "")
	add(ParamBefore, s.Before, "")
	add(ParamActivity, s.Activity, "")
	add(ParamEvent, s.Event, "")
	add(ParamOlder, s.Older, "")
	return all
}

// URL gives the state as a query, with its question mark.
func (s State) URL() string {
	values := url.Values{}
	for _, p := range s.parameters() {
		values.Set(p.Name, p.Value)
	}
	return "?" + values.Encode()
}

// Kept are the parameters that the filter form of the keys keeps as hidden fields.
func (s State) Kept() []Parameter {
	s = s.first()
	s.Search, s.Unused, s.Expiry = "", 0, ""
	return s.parameters()
}

// KeptForAudit is the same for the filter form of the records.
func (s State) KeptForAudit() []Parameter {
	s.Event, s.Older = "", ""
	return s.parameters()
}

// first is the state with the first page of the list.
func (s State) first() State {
	s.Page, s.After, s.Before = 1, "", ""
	return s
}

// sorted is the state with the list sorted by another column, in the more useful
// direction. If it is sorted so already, the direction is reversed.
func (s State) sorted(column string) State {
	useful, reverse := column, "-"+column
	if column == "created_at" { // the newest first
		useful, reverse = reverse, useful
	}
	if s.Sort == useful {
		useful = reverse
	}
	s = s.first()
	s.Sort = useful
	return s
}
