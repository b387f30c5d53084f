package caddymodule

import (
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lumio-vision/caddy-system-keys/internal/adopt"
	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/internal/observe"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
)

// The names of all metrics begin with these.
const (
	metricsNamespace = "caddy"
	metricsSubsystem = "system_keys"
)

// measured is what this process has counted. There is one, as there is one Caddy
// in a process, and it counts on over reloads; each configuration has a registry
// of its own, in which it is entered. All labels are of fixed sets: none ever holds
// anything that a client has sent, nor what names a key.
var measured = newMetrics()

// metrics are the counters and histograms. It implements [engine.Meter].
type metrics struct {
	decisions     *decisions
	cuts          map[string]prometheus.Counter
	verifications map[verify.Path]prometheus.Observer
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

// Why requests in flight were cut.
const (
	cutKey    = "key"    // it was revoked, expired or changed
	cutLapsed = "lapsed" // the lease ran out
)

func newMetrics() *metrics {
	m := &metrics{
		decisions:     newDecisions(),
		cuts:          make(map[string]prometheus.Counter),
		verifications: make(map[verify.Path]prometheus.Observer),
		adoptions:     make(map[adopt.Outcome]prometheus.Counter),
	}
	cuts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "cuts_total",
		Help: "Requests in flight that were cut: because their key was revoked, expired or changed (key), or because the lease ran out (lapsed).",
	}, []string{"reason"})
	for _, reason := range []string{cutKey, cutLapsed} {
		m.cuts[reason] = cuts.WithLabelValues(reason)
	}
	verifications := histogram("verification_duration_seconds",
		"Time to find out whether a minted key is good. Path memory: one check in 256 is timed. "+
			"Paths row, proof and argon2id include the read of the row, argon2id the wait for a slot; requests that wait for one lookup count once.",
		verifyBuckets, "path")
	for _, path := range verify.Paths() {
		m.verifications[path] = verifications.WithLabelValues(string(path))
	}
	adoptions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "adoptions_total",
		Help: "With adopt_keys, requests with a string that was not minted here, by where its key was found (memory, index, search), or why not: " +
			"there is none, it is searched for still (waiting), a bound was met (busy), or the store did not answer (failed).",
	}, []string{"outcome"})
	for _, outcome := range adopt.Outcomes() {
		m.adoptions[outcome] = adoptions.WithLabelValues(string(outcome))
	}
	m.revocations = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "revocation_duration_seconds",
		Help:    "Time from the commit of a revocation through this instance until no instance accepted the key any more.",
		Buckets: revocationBuckets,
	})
	m.store = histogram("store_call_duration_seconds",
		"Time of calls on the store by operation and result. That there is no such key is ok.", callBuckets, "operation", "result")
	m.redis = histogram("redis_call_duration_seconds",
		"Time of calls on Redis by operation and result. Calls that were not made because Redis has been failing are errors too.",
		callBuckets, "operation", "result")
	m.collectors = []prometheus.Collector{
		m.decisions.vector, cuts, verifications, adoptions, m.revocations, m.store, m.redis, newEngineCollector(),
	}
	return m
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: name, Help: help, Buckets: buckets,
	}, labels)
}

// register enters the metrics in the registry of a configuration. The app and the
// route on the admin endpoint both do: the latter is there first, and stays when
// the app of a configuration cannot be loaded.
func (m *metrics) register(ctx caddy.Context) error {
	registry := ctx.GetMetricsRegistry()
	if registry == nil { // a context that is not Caddy's
		return nil
	}
	for _, c := range m.collectors {
		err := registry.Register(c)
		if _, again := errors.AsType[prometheus.AlreadyRegisteredError](err); err != nil && !again {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	return nil
}

// Verified implements [verify.Meter].
func (m *metrics) Verified(path verify.Path, took time.Duration) {
	m.verifications[path].Observe(took.Seconds())
}

// Adopted implements [verify.Meter].
func (m *metrics) Adopted(outcome adopt.Outcome) { m.adoptions[outcome].Inc() }

// StoreCalled implements [observe.Meter].
func (m *metrics) StoreCalled(operation string, result observe.Result, took time.Duration) {
	m.store.WithLabelValues(operation, string(result)).Observe(took.Seconds())
}

// RedisCalled implements [observe.Meter].
func (m *metrics) RedisCalled(operation string, result observe.Result, took time.Duration) {
	m.redis.WithLabelValues(operation, string(result)).Observe(took.Seconds())
}

// cut counts a request that was cut, and returns why, in the word for a request that
// is refused for the same.
func (m *metrics) cut(cause error) string {
	if errors.Is(cause, cut.ErrLapsed) {
		m.cuts[cutLapsed].Inc()
		return unavailableLease.reason
	}
	m.cuts[cutKey].Inc()
	if errors.Is(cause, cut.ErrExpired) {
		return deniedExpired.reason
	}
	return deniedUnknown.reason
}
