// Package metrics has the metrics and the status of an instance. It is told what
// happens, and what an instance is like at a moment. It asks nobody for either, and
// does not know Caddy.
package metrics

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lumio-vision/caddy-system-keys/internal/adopt"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/observe"
)

// Metrics are the counters and histograms. It implements [observe.Meter]. All labels
// are of fixed sets: none ever holds anything that a client has sent, nor what names
// a key.
type Metrics struct {
	decisions     *decisions
	cuts          map[Cut]prometheus.Counter
	verifications map[observe.Path]prometheus.Observer
	adoptions     map[adopt.Outcome]prometheus.Counter
	revocations   prometheus.Histogram
	store, redis  *prometheus.HistogramVec

	collectors []prometheus.Collector
}

// buckets for what takes from a microsecond (from memory) over some ten
// milliseconds (Argon2id) to seconds (a queue, a store that hangs).
var (
	verifyBuckets     = []float64{.000001, .0000025, .00001, .0001, .001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}
	callBuckets       = []float64{.00025, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	revocationBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, 1, 5, 15, 30, 60, 120}
)

// Cut is why requests in flight were cut.
type Cut string

// The reasons.
const (
	CutKey    Cut = "key"    // it was revoked, expired or changed
	CutLapsed Cut = "lapsed" // the lease ran out
)

// New makes metrics that count on over reloads. Current tells what the instance is
// like whenever somebody reads them; it reports false where there is nothing to tell.
func New(now func() time.Time, current func() (State, bool)) *Metrics {
	m := &Metrics{
		decisions:     newDecisions(),
		cuts:          make(map[Cut]prometheus.Counter),
		verifications: make(map[observe.Path]prometheus.Observer),
		adoptions:     make(map[adopt.Outcome]prometheus.Counter),
	}
	cuts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "cuts_total",
		Help: "Requests in flight that were cut: because their key was revoked, expired or changed (key), or because the lease ran out (lapsed).",
	}, []string{"reason"})
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
	adoptions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "adoptions_total",
		Help: "With adopt_keys, requests with a string that was not minted here, by where its key was found (memory, index, search), or why not: " +
			"there is none, it is searched for still (waiting), a bound was met (busy), or the store did not answer (failed).",
	}, []string{"outcome"})
	for _, outcome := range adopt.Outcomes() {
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
		m.decisions, cuts, verifications, adoptions, m.revocations, m.store, m.redis, newEngineCollector(now, current),
	}
	return m
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Subsystem: subsystem, Name: name, Help: help, Buckets: buckets,
	}, labels)
}

// Register enters the metrics in a registry. They may be in it already.
func (m *Metrics) Register(registry prometheus.Registerer) error {
	for _, c := range m.collectors {
		err := registry.Register(c)
		if _, again := errors.AsType[prometheus.AlreadyRegisteredError](err); err != nil && !again {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	return nil
}

// Decided counts a request that goes on, or is refused.
func (m *Metrics) Decided(reason gate.Reason) { m.decisions.counters[reason].Inc() }

// Cut counts a request that was cut.
func (m *Metrics) Cut(reason Cut) { m.cuts[reason].Inc() }

// Revoked takes how long a revocation took to be true everywhere.
func (m *Metrics) Revoked(took time.Duration) { m.revocations.Observe(took.Seconds()) }

// Verified implements [observe.Meter].
func (m *Metrics) Verified(path observe.Path, took time.Duration) {
	m.verifications[path].Observe(took.Seconds())
}

// Adopted implements [observe.Meter].
func (m *Metrics) Adopted(outcome string) { m.adoptions[adopt.Outcome(outcome)].Inc() }

// StoreCalled implements [observe.Meter].
func (m *Metrics) StoreCalled(operation string, result observe.Result, took time.Duration) {
	m.store.WithLabelValues(operation, string(result)).Observe(took.Seconds())
}

// RedisCalled implements [observe.Meter].
func (m *Metrics) RedisCalled(operation string, result observe.Result, took time.Duration) {
	m.redis.WithLabelValues(operation, string(result)).Observe(took.Seconds())
}

var _ observe.Meter = (*Metrics)(nil)
