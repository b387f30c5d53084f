package ui

import "time"

// Record is an entry of the audit card.
type Record struct {
	ID, Event string
	At        time.Time
	// Key is the key's id and KeyLabel its label; both are empty in records of no
	// one key.
	Key, KeyLabel string
	// Actor is who did it: a label, or an id where there is none. Empty: the key
	// itself.
	Actor string
	// Method, Path, Status and ClientIP are empty without a request.
	Method, Path, ClientIP string
	Status                 int
	// Missing is how many records a gap stands for.
	Missing int64
}

// Audit is the card with the newest audit records.
type Audit struct {
	State   State
	Records []Record
	// Events are the kinds there are.
	Events []string
	// Total counts the records on all pages, up to a limit; More says that there
	// are more.
	Total int
	More  bool
	// Next is the cursor of the page behind, or empty.
	Next string
	// Label is that of the key whose activity it is, if it is of one.
	Label   string
	MayRead bool
	// Fault is as in [Keys].
	Fault string
}

func (Audit) template() string { return "audit" }
func (Audit) title() string    { return "title.system" }

// OlderURL leads to the page behind.
func (a Audit) OlderURL() string {
	s := a.State
	s.Older = a.Next
	return s.URL() + "#audit"
}

// NewestURL leads back to the first page.
func (a Audit) NewestURL() string {
	s := a.State
	s.Older = ""
	return s.URL() + "#audit"
}

// EveryKeyURL takes the filter by key away.
func (a Audit) EveryKeyURL() string {
	s := a.State
	s.Activity, s.Older = "", ""
	return s.URL() + "#audit"
}

// System is the page itself: both cards.
type System struct {
	Keys  Keys
	Audit Audit
}

func (System) template() string { return "system" }
func (System) title() string    { return "title.system" }
