package metrics

import (
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/movein"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// State is the state of an instance at a moment.
//
// It is a reading: it does not change, and the parts in Live go on.
type State struct {
	// Name names the process for people.
	Name string
	// Live has the parts of the engine. It is nil while the store is not open.
	Live *engine.Live
	// Failure says why the store could not be opened, or is nil.
	Failure *engine.Failure
	Redis   *Redis // nil without Redis
}

// Readiness says whether keys can be verified, and if not, what is missing.
type Readiness struct {
	Ready   bool     `json:"ready"`
	Missing []string `json:"missing"`
}

// Readiness says whether the instance can verify keys. It reads the state of the lease and asks
// nobody, so a probe costs the store nothing.
func (s State) Readiness() Readiness {
	missing := s.missing()
	return Readiness{Ready: len(missing) == 0, Missing: missing}
}

// missing names what prevents the verification of keys. It is empty if keys can be
// verified, and never nil, so that JSON has an array.
//
// The names are a part of the answer to a probe.
func (s State) missing() []string {
	switch {
	case s.Live == nil:
		return []string{"store"}
	case s.Live.Lease.Stats().State == coherence.LeaseNone:
		return []string{"lease"}
	}
	return []string{}
}

// Status is the state of all instances and of this one. Servers is nil while the store does
// not answer.
//
// It is the answer of the admin endpoint, and of `caddy system-keys status --json`. Each leaves
// out what it does not know.
type Status struct {
	*Servers
	// Followed is the table of another service that is followed, or nil.
	Followed *movein.Followed `json:"followed,omitempty"`
	// Instance is nil in the command line if no server answers.
	Instance *Instance `json:"instance,omitempty"`
}

// Servers is what a store knows of the servers that use it.
type Servers struct {
	RevocationEpoch int64 `json:"revocation_epoch"`
	// Watched says that every change of a key is logged.
	Watched bool `json:"watched"`
	// Named says that the database server identifies its history, so that instances
	// notice a failover to another history at once.
	Named     bool     `json:"history_named"`
	Instances []Member `json:"instances"`
}

// Member is one of the servers on a store.
type Member struct {
	ID       store.ID  `json:"id"`
	Name     string    `json:"name"`
	Lease    string    `json:"lease"`
	Applied  int64     `json:"applied"`
	Behind   int64     `json:"behind"`
	JoinedAt time.Time `json:"joined_at"`
	SeenAt   time.Time `json:"seen_at"`
}

// ServersOf converts what a store knows of its servers. The list is never null in JSON.
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

// Instance is what an instance knows of itself. Members that are null are not known yet, unless
// their comment says otherwise.
type Instance struct {
	Readiness
	// ID identifies this instance in the list of instances. It is null before it has
	// joined.
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

// storeJSON is the state of the store. Answers is set by whoever asks the store: see the admin
// endpoint.
type storeJSON struct {
	Open bool `json:"open"`
	// Answers says that the store has answered now, for this status.
	Answers bool `json:"answers"`
	// Error says why the store cannot be opened or does not answer. Since is the time of
	// the first failure to open it.
	Error string     `json:"error,omitempty"`
	Since *time.Time `json:"since,omitempty"`
}

// Redis is the state of Redis: ok, failing (it answers with errors) or unreachable.
type Redis struct {
	State  string    `json:"state"` // the worse of Reads and Writes
	Since  time.Time `json:"since"`
	Error  string    `json:"error,omitempty"`
	Reads  string    `json:"reads"`
	Writes string    `json:"writes"`
	// Breaker maps each state of the circuit breaker to whether it is the current one.
	Breaker map[string]bool `json:"-"`
}

// leaseJSON is the state of the lease. Age is since when the store has not extended it.
type leaseJSON struct {
	State     string  `json:"standing"` // none, direct or cached
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

// leaseStates are the names of the states of a lease. Without one requests are refused. A direct
// one lets no key be accepted from memory. A cached one does.
var leaseStates = map[coherence.LeaseState]string{
	coherence.LeaseNone: "none", coherence.LeaseDirect: "direct", coherence.LeaseCached: "cached",
}

// Instance converts the state for the JSON of a status. What is not known while the store is not
// open is null. It asks nobody, so it does not know whether the store answers.
func (s State) Instance(now time.Time) *Instance {
	live := s.Live
	instance := &Instance{Readiness: s.Readiness(), Name: s.Name, Store: storeJSON{Open: live != nil}, Redis: s.Redis}
	if s.Failure != nil {
		instance.Store.Error, instance.Store.Since = s.Failure.Err.Error(), new(s.Failure.Since.UTC())
	}
	if live == nil {
		return instance
	}
	if member := live.Follower.Place().Member; member != (store.ID{}) {
		instance.ID = &member
	}
	lease, slots, uses, audit := live.Lease.Stats(), live.Slots.Stats(), live.Recorder.Stats(), live.Audit.Stats()
	instance.Lease = &leaseJSON{leaseStates[lease.State], lease.TTL.Seconds(), lease.Age.Seconds(), lease.Remaining.Seconds()}
	instance.Argon2id = &argon2idJSON{slots.Total, slots.InUse, slots.Queued}
	instance.LastUsed = &lastUsedJSON{uses.Waiting, lag(live, now).Seconds()}
	instance.Audit = &auditJSON{audit.Waiting, audit.Lost}
	if live.Adopt != nil {
		adoption := live.Adopt.Stats()
		instance.Adoption = &adoptionJSON{adoption.Candidates, adoption.Waiting}
	}
	instance.InFlight = live.InFlight.Len()
	return instance
}

// lag is the age of the oldest last use that is not written yet. The clock may have been set
// back meanwhile, so it is never less than zero.
func lag(l *engine.Live, now time.Time) time.Duration {
	oldest := l.Recorder.Stats().Oldest
	if oldest.IsZero() {
		return 0
	}
	return max(0, now.Sub(oldest))
}
