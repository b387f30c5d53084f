package caddymodule

import (
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

// controlJSON is what all instances are like, left out while the store does not
// answer, and what this one is.
type controlJSON struct {
	*statusJSON
	// Instance is left out by the command line where no server answers.
	Instance *ownJSON `json:"instance,omitempty"`
}

// ownJSON is what this instance knows of itself. Times are in seconds.
type ownJSON struct {
	readyJSON
	// ID is this instance's in the list of instances; null before it has joined.
	ID       *store.ID     `json:"id"`
	Name     string        `json:"name"`
	Store    storeJSON     `json:"store"`
	Redis    *redisJSON    `json:"redis"` // null without Redis
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
	// Error is why the store cannot be opened, or does not answer; Since is when
	// it could not be opened for the first time.
	Error string     `json:"error,omitempty"`
	Since *time.Time `json:"since,omitempty"`
}

// redisJSON is how Redis does: ok, failing (it answers with errors) or unreachable.
type redisJSON struct {
	State  redis.Condition `json:"state"` // the worse of the two below
	Since  time.Time       `json:"since"`
	Error  string          `json:"error,omitempty"`
	Reads  redis.Condition `json:"reads"`
	Writes redis.Condition `json:"writes"`
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

// failureOf is why the store is not open, if that was tried.
func failureOf(e *engine.Engine) *engine.Failure {
	if e == nil {
		return nil
	}
	return e.Failure()
}

// instanceOf describes an engine, which may be nil.
func instanceOf(e *engine.Engine, now time.Time) ownJSON {
	live := liveOf(e)
	own := ownJSON{readyJSON: readyOf(live), Name: instanceName(), Store: storeJSON{Open: live != nil}}
	if cache := redisOf(e); cache != nil {
		h := cache.Health()
		own.Redis = &redisJSON{h.Condition, h.Since.UTC(), h.Error, h.Reads, h.Writes}
	}
	if failure := failureOf(e); failure != nil {
		own.Store.Error, own.Store.Since = failure.Err.Error(), new(failure.Since.UTC())
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
	if live.Adopt != nil {
		adoption := live.Adopt.Stats()
		own.Adoption = &adoptionJSON{adoption.Candidates, adoption.Waiting}
	}
	own.InFlight = live.Flights.Len()
	return own
}
