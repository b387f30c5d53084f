package metrics

import (
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// State is what an instance is like at a moment.
type State struct {
	// Name says which process it is, for people.
	Name string
	// Live are the parts of the engine, nil while its store is not open.
	Live *engine.Live
	// Failure is why the store is not open, if that was tried.
	Failure *engine.Failure
	Redis   *Redis // nil without Redis
}

// Readiness says whether keys can be verified, and what is missing if not.
type Readiness struct {
	Ready   bool     `json:"ready"`
	Missing []string `json:"missing"`
}

// Readiness says whether the instance can verify keys.
func (s State) Readiness() Readiness {
	gaps := s.missing()
	return Readiness{Ready: len(gaps) == 0, Missing: gaps}
}

// missing names what keeps keys from being verified; nothing if they can be.
func (s State) missing() []string {
	switch {
	case s.Live == nil:
		return []string{"store"}
	case s.Live.Lease.Stats().Standing == coherence.None:
		return []string{"lease"}
	}
	return []string{}
}

// Status is what all instances are like, left out while the store does not
// answer, and what this one is.
type Status struct {
	*Servers
	// Instance is left out by the command line where no server answers.
	Instance *Instance `json:"instance,omitempty"`
}

// Servers is what is known of the servers on a store.
type Servers struct {
	RevocationEpoch int64 `json:"revocation_epoch"`
	Watched         bool  `json:"watched"`
	// Named says that the server tells which history it has, so that another one is
	// noticed at once after a failover.
	Named     bool     `json:"history_named"`
	Instances []Member `json:"instances"`
}

// Member is one of the servers.
type Member struct {
	ID       store.ID  `json:"id"`
	Name     string    `json:"name"`
	Lease    string    `json:"lease"`
	Applied  int64     `json:"applied"`
	Behind   int64     `json:"behind"`
	JoinedAt time.Time `json:"joined_at"`
	SeenAt   time.Time `json:"seen_at"`
}

// ServersOf describes what a store says of its servers.
func ServersOf(p *store.Progress) *Servers {
	s := &Servers{RevocationEpoch: p.Head.Rev, Watched: p.Watched, Named: p.Origin != "", Instances: []Member{}}
	for _, m := range p.Members {
		s.Instances = append(s.Instances, Member{
			ID: m.ID, Name: m.Name, Lease: m.TTL.String(),
			Applied: m.Applied, Behind: max(0, p.Head.Rev-m.Applied),
			JoinedAt: m.JoinedAt, SeenAt: m.SeenAt,
		})
	}
	return s
}

// Instance is what this instance knows of itself. Times are in seconds.
type Instance struct {
	Readiness
	// ID is this instance's in the list of instances; null before it has joined.
	ID       *store.ID     `json:"id"`
	Name     string        `json:"name"`
	Store    storeJSON     `json:"store"`
	Redis    *Redis        `json:"redis"` // null without Redis
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

// Redis is how Redis does: ok, failing (it answers with errors) or unreachable.
type Redis struct {
	State  string    `json:"state"` // the worse of the two below
	Since  time.Time `json:"since"`
	Error  string    `json:"error,omitempty"`
	Reads  string    `json:"reads"`
	Writes string    `json:"writes"`
	// Breaker has all states of the circuit breaker, and in which it is.
	Breaker map[string]bool `json:"-"`
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

// Instance describes the instance.
func (s State) Instance(now time.Time) *Instance {
	live := s.Live
	own := &Instance{Readiness: s.Readiness(), Name: s.Name, Store: storeJSON{Open: live != nil}, Redis: s.Redis}
	if s.Failure != nil {
		own.Store.Error, own.Store.Since = s.Failure.Err.Error(), new(s.Failure.Since.UTC())
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

// lag is the age of the oldest last use that is not written yet.
func lag(l *engine.Live, now time.Time) time.Duration {
	oldest := l.Recorder.Stats().Oldest
	if oldest.IsZero() {
		return 0
	}
	return max(0, now.Sub(oldest))
}
