// Package metrics has the metrics and the status of an instance. Its callers tell it what
// happens, and what state an instance has. It does not know Caddy.
package metrics

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/observe"
)

// The names of all metrics begin with these.
const (
	namespace = "caddy"
	subsystem = "system_keys"
)

// Metrics are the counters and histograms. All labels come from fixed sets: no label ever
// holds text that a client has sent, or the name of a key.
type Metrics struct {
	decisions     map[gate.Reason]prometheus.Counter
	cuts          map[Cut]prometheus.Counter
	verifications map[observe.Path]prometheus.Observer
	adoptions     map[observe.Outcome]prometheus.Counter
	revocations   prometheus.Histogram
	store, redis  *prometheus.HistogramVec

	collectors []prometheus.Collector
}

// The buckets reach from a microsecond (memory) over some ten milliseconds (Argon2id) to
// seconds (a queue, a store that hangs).
var (
	verifyBuckets     = []float64{.000001, .0000025, .00001, .0001, .001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}
	callBuckets       = []float64{.00025, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	revocationBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, 1, 5, 15, 30, 60, 120}
)

// reasons are all reasons of decisions, by result. The answer to a denied request is 401,
// unless a comment says otherwise.
var reasons = map[string][]gate.Reason{
	"allowed": {gate.AllowedKey, gate.AllowedEarlier, gate.AllowedAnonymous},
	"denied": {
		gate.DeniedNoKey, gate.DeniedMalformed, gate.DeniedUnminted, gate.DeniedRevoked, gate.DeniedMismatch, gate.DeniedExpired,
		gate.DeniedNetwork,    // 403
		gate.DeniedPermission, // 403
		gate.DeniedRequest,    // 400 and 405
		gate.DeniedMisplaced,  // 400
		gate.DeniedTooMany,    // 429
	},
	"unavailable": {
		gate.UnavailableBusy, gate.UnavailableLease, gate.UnavailableNotReady, gate.UnavailableAdoption, gate.UnavailableUnfollowed,
		gate.UnavailableAssertion, gate.UnavailableStore,
	},
	"abandoned": {gate.AbandonedClient},
}

// Cut says why a request in flight was cut.
type Cut string

// The reasons.
const (
	CutKey    Cut = "key"    // its key was revoked, expired or changed
	CutLapsed Cut = "lapsed" // the lease ran out
)

// New makes metrics that count on over reloads. Current returns the state of the instance
// at the moment of a scrape. It returns false if no instance runs.
//
// New makes the counters of all labels, so that they are there from the start, and a
// request costs one addition.
func New(now func() time.Time, current func() (State, bool)) *Metrics {
	m := &Metrics{
		decisions:     make(map[gate.Reason]prometheus.Counter),
		cuts:          make(map[Cut]prometheus.Counter),
		verifications: make(map[observe.Path]prometheus.Observer),
		adoptions:     make(map[observe.Outcome]prometheus.Counter),
	}
	decisions := counters("decisions_total",
		"Requests that system_key_auth, or the provider system_key, has decided on, by result and reason.", "result", "reason")
	for result, all := range reasons {
		for _, reason := range all {
			m.decisions[reason] = decisions.WithLabelValues(result, string(reason))
		}
	}
	cuts := counters("cuts_total",
		"Requests in flight that were cut: because their key was revoked, expired or changed (key), or because the lease ran out (lapsed).",
		"reason")
	for _, reason := range []Cut{CutKey, CutLapsed} {
		m.cuts[reason] = cuts.WithLabelValues(string(reason))
	}
	verifications := histogram("verification_duration_seconds",
		"Time to find out whether a minted key is good. Path memory: one check in 256 is timed. "+
			"Paths row, proof and argon2id include the read of the row, argon2id the wait for a slot; requests that wait for one lookup count once.",
		verifyBuckets, "path")
	for _, path := range observe.Paths() {
		m.verifications[path] = verifications.WithLabelValues(string(path))
	}
	adoptions := counters("adoptions_total",
		"With adopt_keys, requests with a string that was not minted here, by where its key was found (memory, index, search), or why not: "+
			"there is none, it is searched for still (waiting), a bound was met (busy), or the store did not answer (failed).",
		"outcome")
	for _, outcome := range observe.Outcomes() {
		m.adoptions[outcome] = adoptions.WithLabelValues(string(outcome))
	}
	m.revocations = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "revocation_duration_seconds",
		Help:    "Time from the commit of a revocation through this instance until no instance accepted the key any more.",
		Buckets: revocationBuckets,
	})
	m.store = histogram("store_call_duration_seconds",
		"Time of calls on the store by operation and result. That there is no such key is ok.", callBuckets, "operation", "result")
	m.redis = histogram("redis_call_duration_seconds",
		"Time of calls on Redis by operation and result. Calls that were not made because Redis has been failing are errors too.",
		callBuckets, "operation", "result")
	m.collectors = []prometheus.Collector{
		decisions, cuts, verifications, adoptions, m.revocations, m.store, m.redis, newEngineCollector(now, current),
	}
	return m
}

// counters makes counters with our prefix, one for each combination of labels.
func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem, Name: name, Help: help,
	}, labels)
}

// histogram does the same for times, in seconds.
func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Subsystem: subsystem, Name: name, Help: help, Buckets: buckets,
	}, labels)
}

// Register registers the metrics. It is no error if the registry has them already: after a
// reload the same metrics meet a registry again.
func (m *Metrics) Register(registry prometheus.Registerer) error {
	for _, c := range m.collectors {
		err := registry.Register(c)
		if _, registered := errors.AsType[prometheus.AlreadyRegisteredError](err); err != nil && !registered {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	return nil
}

// Decided counts a request that goes on or is refused. The reason must be one of [reasons]:
// another one panics. A test holds that none is missing there.
func (m *Metrics) Decided(reason gate.Reason) { m.decisions[reason].Inc() }

// Cut counts a request that was cut. The reason must be one of the two above.
func (m *Metrics) Cut(reason Cut) { m.cuts[reason].Inc() }

// Revoked records how long it took until no instance accepted a revoked key. A wait that has
// failed is not recorded.
func (m *Metrics) Revoked(took time.Duration) { m.revocations.Observe(took.Seconds()) }

// Verified implements [observe.Meter].
func (m *Metrics) Verified(path observe.Path, took time.Duration) {
	m.verifications[path].Observe(took.Seconds())
}

// Adopted implements [observe.Meter].
func (m *Metrics) Adopted(outcome observe.Outcome) { m.adoptions[outcome].Inc() }

// StoreCalled implements [observe.Meter].
func (m *Metrics) StoreCalled(operation string, result observe.Result, took time.Duration) {
	m.store.WithLabelValues(operation, string(result)).Observe(took.Seconds())
}

// RedisCalled implements [observe.Meter].
func (m *Metrics) RedisCalled(operation string, result observe.Result, took time.Duration) {
	m.redis.WithLabelValues(operation, string(result)).Observe(took.Seconds())
}

var _ observe.Meter = (*Metrics)(nil)
