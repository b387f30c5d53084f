package caddymodule

import (
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// controlJSON is what all instances are like, left out while the store does not
// answer, and what this one is.
type controlJSON struct {
	*statusJSON
	Instance ownJSON `json:"instance"`
}

// ownJSON is what this instance knows of itself. Times are in seconds.
type ownJSON struct {
	readyJSON
	// ID is this instance's in the list of instances; null before it has joined.
	ID       *store.ID     `json:"id"`
	Name     string        `json:"name"`
	Store    storeJSON     `json:"store"`
	Redis    *string       `json:"redis"` // the breaker's state; null without Redis
	Lease    *leaseJSON    `json:"lease"`
	Argon2id *argon2idJSON `json:"argon2id"`
	LastUsed *lastUsedJSON `json:"last_used"`
	Audit    *auditJSON    `json:"audit"`
	Adoption *adoptionJSON `json:"adoption"` // null without adopt_keys
	InFlight int           `json:"requests_in_flight"`
}

type storeJSON struct {
	Open    bool `json:"open"`
	Answers bool `json:"answers"` // now
}

type leaseJSON struct {
	Standing  string  `json:"standing"` // none, direct or cached
	Duration  float64 `json:"duration_seconds"`
	Age       float64 `json:"age_seconds"`
	Remaining float64 `json:"remaining_seconds"`
}

type argon2idJSON struct {
	Slots  int64 `json:"slots"`
	InUse  int64 `json:"in_use"`
	Queued int64 `json:"queued"`
}

type lastUsedJSON struct {
	Waiting int     `json:"waiting"`
	Lag     float64 `json:"lag_seconds"`
}

type auditJSON struct {
	Waiting int   `json:"waiting"`
	Dropped int64 `json:"dropped"`
}

type adoptionJSON struct {
	Candidates int `json:"candidates"` // keys of other services that have not been found yet
	Searches   int `json:"searches"`
}

// standings are how a lease stands, in words.
var standings = map[coherence.Standing]string{
	coherence.None: "none", coherence.Direct: "direct", coherence.Cached: "cached",
}

// instanceOf describes an engine, which may be nil.
func instanceOf(e *engine.Engine, now time.Time) ownJSON {
	live := liveOf(e)
	own := ownJSON{readyJSON: readyOf(live), Name: instanceName(), Store: storeJSON{Open: live != nil}}
	if state, ok := breakerOf(e); ok {
		own.Redis = new(string(state))
	}
	if live == nil {
		return own
	}
	if member := live.Follower.Place().Member; member != (store.ID{}) {
		own.ID = &member
	}
	lease, slots, uses, audit := live.Lease.Stats(), live.Slots.Stats(), live.Recorder.Stats(), live.Audit.Stats()
	own.Lease = &leaseJSON{standings[lease.Standing], lease.TTL.Seconds(), lease.Age.Seconds(), lease.Remaining.Seconds()}
	own.Argon2id = &argon2idJSON{slots.Total, slots.InUse, slots.Queued}
	own.LastUsed = &lastUsedJSON{uses.Waiting, lag(live, now).Seconds()}
	own.Audit = &auditJSON{audit.Waiting, audit.Lost}
	if adoption, ok := live.Verifier.Adoption(); ok {
		own.Adoption = &adoptionJSON{adoption.Candidates, adoption.Waiting}
	}
	own.InFlight = live.Flights.Len()
	return own
}
