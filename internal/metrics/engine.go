package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lumio-vision/caddy-system-keys/internal/adopt"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/expiry"
)

// reading is one metric that a scrape reads from the live engine. If ok is false, the metric is
// left out. To read at a scrape costs requests nothing, and the value is never old.
type reading struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(l *engine.Live) (value float64, ok bool)
}

// engineCollector reads the engine that runs now, whichever registry asks. If no instance runs,
// it collects nothing. After a reload there may be another engine, whose counters begin at zero:
// Prometheus takes that for a restart. It is safe for concurrent use.
type engineCollector struct {
	ready    *prometheus.Desc
	breaker  *prometheus.Desc
	expiring *prometheus.Desc
	readings []reading
	now      func() time.Time
	current  func() (State, bool)
}

// newEngineCollector describes all metrics of the engine. See [New] for the parameters.
//
// All names are fixed here, before there is an engine, so that a registry finds
// a name that is taken when the metrics are registered.
func newEngineCollector(now func() time.Time, current func() (State, bool)) *engineCollector {
	c := &engineCollector{
		ready: describe("ready", "1 if the store is open and the lease is in force, so that keys can be verified."),
		breaker: describe("redis_breaker_state", "1 for the state in which the circuit breaker of Redis is. "+
			"While it is open Redis is not asked, and keys cost Argon2id.", "state"),
		expiring: describe("expiring", "Live keys that expire within this time. All instances of a store have the same number.", "within"),
		now:      now,
		current:  current,
	}
	c.addMemory()
	c.addArgon2id()
	c.addAdoption()
	c.addLease()
	c.addWriteBehind()
	return c
}

// describe makes the description of a metric with our prefix.
func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, subsystem, name), help, labels, nil)
}

// gauge and counter add a metric that is never left out.
func (c *engineCollector) gauge(name, help string, read func(*engine.Live) float64) {
	c.add(name, help, prometheus.GaugeValue, func(l *engine.Live) (float64, bool) { return read(l), true })
}

// counter is for a value that only grows in the life of an engine.
func (c *engineCollector) counter(name, help string, read func(*engine.Live) float64) {
	c.add(name, help, prometheus.CounterValue, func(l *engine.Live) (float64, bool) { return read(l), true })
}

// add adds a metric that read may leave out.
func (c *engineCollector) add(name, help string, kind prometheus.ValueType, read func(*engine.Live) (float64, bool)) {
	c.readings = append(c.readings, reading{describe(name, help), kind, read})
}

// addMemory adds the metrics of keys in memory and of their requests.
func (c *engineCollector) addMemory() {
	c.counter("memory_hits_total", "Keys that were accepted from memory, under the lease.",
		func(l *engine.Live) float64 { return float64(l.Verifier.Stats().Remembered) })
	c.counter("row_reads_total", "Rows that were read from the store to verify a key.",
		func(l *engine.Live) float64 { return float64(l.Verifier.Stats().RowReads) })
	c.gauge("remembered_keys", "Keys in memory.",
		func(l *engine.Live) float64 { return float64(l.Verifier.Stats().Entries) })
	c.gauge("requests_in_flight", "Requests that were let through by a key and have not ended.",
		func(l *engine.Live) float64 { return float64(l.InFlight.Len()) })
}

// addArgon2id adds the metrics of the Argon2id slots and their queue.
func (c *engineCollector) addArgon2id() {
	c.counter("argon2id_runs_total", "Argon2id computations of all kinds.",
		func(l *engine.Live) float64 { return float64(l.Verifier.Stats().Argon2Runs) })
	c.gauge("argon2id_slots", "How many Argon2id computations may run at once.",
		func(l *engine.Live) float64 { return float64(l.Slots.Stats().Total) })
	c.gauge("argon2id_slots_in_use", "Slots in which a computation runs.",
		func(l *engine.Live) float64 { return float64(l.Slots.Stats().InUse) })
	c.gauge("argon2id_queue_length", "Verifications that wait for a slot.",
		func(l *engine.Live) float64 { return float64(l.Slots.Stats().Queued) })
	c.gauge("argon2id_queue_capacity", "Verifications that may wait; beyond it requests get 503.",
		func(l *engine.Live) float64 { return float64(l.Slots.Stats().Capacity) })
}

// addAdoption adds metrics that are left out without adopt_keys.
func (c *engineCollector) addAdoption() {
	add := func(name, help string, kind prometheus.ValueType, read func(adopt.Stats) float64) {
		c.add(name, help, kind, func(l *engine.Live) (float64, bool) { return read(l.Adopt.Stats()), l.Adopt != nil })
	}
	add("adoption_candidates", "Keys of other services that have not been found yet. Each string that was not minted here is tried against all of them.",
		prometheus.GaugeValue, func(s adopt.Stats) float64 { return float64(s.Candidates) })
	add("adoption_candidates_limit", "How many of them are tried. Where there are more, strings that are none of the oldest get 503.",
		prometheus.GaugeValue, func(adopt.Stats) float64 { return adopt.MaxCandidates })
	add("adoption_searches", "Strings that are looked for, or wait for it.",
		prometheus.GaugeValue, func(s adopt.Stats) float64 { return float64(s.Waiting) })
	add("adoption_argon2id_runs_total", "Argon2id computations of searches, in argon2id_runs_total too.",
		prometheus.CounterValue, func(s adopt.Stats) float64 { return float64(s.Argon2Runs) })
}

// addLease adds the metrics of the lease, and of the changes that this instance has applied.
func (c *engineCollector) addLease() {
	c.gauge("lease_duration_seconds", "The configured length of the lease.",
		func(l *engine.Live) float64 { return l.Lease.Stats().TTL.Seconds() })
	c.gauge("lease_remaining_seconds", "For how long memory may still be trusted without the store; 0 without a lease, when requests get 503.",
		func(l *engine.Live) float64 { return l.Lease.Stats().Remaining.Seconds() })
	c.add("lease_age_seconds", "Since when the store has not extended the lease. There is none without a lease.",
		prometheus.GaugeValue, func(l *engine.Live) (float64, bool) {
			s := l.Lease.Stats()
			return s.Age.Seconds(), s.State != coherence.LeaseNone
		})
	c.gauge("changes_watched", "1 if memory may be trusted; 0 without a lease, "+
		"or if the store does not log every change of a key, so that every request reads its row.",
		func(l *engine.Live) float64 { return boolean(l.Lease.Stats().State == coherence.LeaseCached) })
	c.gauge("revocation_epoch", "Number of the newest change of a key that this instance has applied.",
		func(l *engine.Live) float64 { return float64(l.Follower.Place().Applied.Rev) })
}

// addWriteBehind adds the metrics of what is written to the store later.
func (c *engineCollector) addWriteBehind() {
	c.gauge("last_used_waiting", "Keys whose last use is not written yet.",
		func(l *engine.Live) float64 { return float64(l.Recorder.Stats().Waiting) })
	c.gauge("last_used_lag_seconds", "Age of the oldest last use that is not written yet; 0 for none.",
		func(l *engine.Live) float64 { return lag(l, c.now()).Seconds() })
	c.gauge("audit_queue_length", "Audit records that wait to be written.",
		func(l *engine.Live) float64 { return float64(l.Audit.Stats().Waiting) })
	c.gauge("audit_queue_capacity", "Audit records that may wait; beyond it they are dropped.",
		func(l *engine.Live) float64 { return float64(l.Audit.Stats().Capacity) })
	c.counter("audit_dropped_total", "Audit records that were dropped. The audit log says so too.",
		func(l *engine.Live) float64 { return float64(l.Audit.Stats().Lost) })
}

// boolean converts a bool to the value of a gauge.
//
// Prometheus has no other type for a yes or no.
func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe implements [prometheus.Collector]. It names all metrics, also those that are left out
// at times, so that a registry refuses another collector with the same names.
func (c *engineCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- c.ready
	descs <- c.breaker
	descs <- c.expiring
	for _, r := range c.readings {
		descs <- r.desc
	}
}

// Collect implements [prometheus.Collector]. While the store is not open, it says that the
// instance is not ready, and how Redis does. Everything else is left out: a value of 0 would
// look like a good one.
func (c *engineCollector) Collect(into chan<- prometheus.Metric) {
	state, ok := c.current()
	if !ok {
		return
	}
	into <- prometheus.MustNewConstMetric(c.ready, prometheus.GaugeValue, boolean(len(state.missing()) == 0))
	if state.Redis != nil {
		for name, current := range state.Redis.Breaker {
			into <- prometheus.MustNewConstMetric(c.breaker, prometheus.GaugeValue, boolean(current), name)
		}
	}
	if state.Live == nil {
		return
	}
	for _, r := range c.readings {
		if value, ok := r.read(state.Live); ok {
			into <- prometheus.MustNewConstMetric(r.desc, r.kind, value)
		}
	}
	// A scrape hardly ever asks the store: the counts are kept while no key has changed.
	if counts, ok := state.Live.Expiry.Expiring(state.Live.Follower.Place().Applied.Rev); ok {
		for i, window := range expiry.Windows {
			into <- prometheus.MustNewConstMetric(c.expiring, prometheus.GaugeValue, float64(counts[i]), window.Name)
		}
	}
}

var _ prometheus.Collector = (*engineCollector)(nil)
