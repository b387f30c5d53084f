package ui

import (
	"cmp"
	"encoding/json"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Record is an entry of the audit card.
type Record struct{ *store.AuditRecord }

// KeyName is the key's label, or its id where the record has no label. It is empty if
// the record is not about one key.
func (r Record) KeyName() string {
	if r.Key.ID == (store.ID{}) {
		return r.Key.Label
	}
	return cmp.Or(r.Key.Label, r.Key.ID.String())
}

// By names the actor by label, or by id where there is no label. It is empty if the
// key itself has acted.
func (r Record) By() string {
	if r.Actor.ID == r.Key.ID.String() {
		return ""
	}
	return r.Actor.Text()
}

// Missing is how many records a gap stands for.
func (r Record) Missing() int64 {
	if r.Event != store.AuditGap {
		return 0
	}
	var gap struct {
		Dropped int64 `json:"dropped"`
	}
	_ = json.Unmarshal(r.Details, &gap) // a missing number counts as 0
	return gap.Dropped
}

// News is what the record of a new network says.
type News struct {
	Network string `json:"network"`
	Count   int    `json:"count"`
}

// More is how many other networks the record stands for.
func (n News) More() int { return n.Count - 1 }

// News returns nil if the record is about no new network.
func (r Record) News() *News {
	if r.Event != store.AuditNewNetwork {
		return nil
	}
	news := new(News)
	_ = json.Unmarshal(r.Details, news) // what is missing stays empty
	return news
}

// Audit is the card with the newest audit records.
type Audit struct {
	State   State
	Records []Record
	// Events are all kinds of events.
	Events []store.AuditEvent
	// Total counts the records on all pages, up to a limit; More says that there
	// are more.
	Total int
	More  bool
	// Next is the cursor of the next page, or empty.
	Next string
	// Label is the label of the key whose records are shown, if they are of one key.
	Label string
	// Use is what that key is used for. It is nil if the key is gone, or may not be read.
	Use     *Use
	MayRead bool
	// Fault is as in [Keys].
	Fault string
}

func (Audit) template() string { return "audit" }
func (Audit) title() string    { return "title.system" }

// OlderURL leads to the next page.
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

// EveryKeyURL leads to the records of all keys.
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
