package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lumio-vision/caddy-system-keys/internal/adopt"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
)

// reading is one metric that is read from the live engine when somebody asks.
type reading struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(l *engine.Live, now time.Time) (value float64, ok bool)
}

// engineCollector reads the engine that runs now, whichever registry asks. Without
// an engine there is nothing to read.
type engineCollector struct {
	running *prometheus.Desc
	breaker *prometheus.Desc
	all     []reading
	now     func() time.Time
	current func() (State, bool)
}

func newEngineCollector(now func() time.Time, current func() (State, bool)) *engineCollector {
	c := &engineCollector{
		running: describe("ready", "1 if the store is open and the lease is in force, so that keys can be verified."),
		breaker: describe("redis_breaker_state", "1 for the state in which the circuit breaker of Redis is. "+
			"While it is open Redis is not asked, and keys cost Argon2id.", "state"),
		now:     now,
		current: current,
	}
	c.memory()
	c.argon2id()
	c.adoption()
	c.lease()
	c.behind()
	return c
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, subsystem, name), help, labels, nil)
}

// always makes a reading of what is always there.
func always(read func(l *engine.Live) float64) func(*engine.Live, time.Time) (float64, bool) {
	return func(l *engine.Live, _ time.Time) (float64, bool) { return read(l), true }
}

func (c *engineCollector) gauge(name, help string, read func(*engine.Live, time.Time) (float64, bool)) {
	c.all = append(c.all, reading{describe(name, help), prometheus.GaugeValue, read})
}

func (c *engineCollector) counter(name, help string, read func(*engine.Live) float64) {
	c.all = append(c.all, reading{describe(name, help), prometheus.CounterValue, always(read)})
}

func (c *engineCollector) memory() {
	c.counter("memory_hits_total", "Keys that were accepted from memory, under the lease.",
		func(l *engine.Live) float64 { return float64(l.Verifier.Stats().Remembered) })
	c.counter("row_reads_total", "Rows that were read from the store to verify a key.",
		func(l *engine.Live) float64 { return float64(l.Verifier.Stats().RowReads) })
	c.gauge("remembered_keys", "Keys in memory.",
		always(func(l *engine.Live) float64 { return float64(l.Verifier.Stats().Entries) }))
	c.gauge("requests_in_flight", "Requests that were let through by a key and have not ended.",
		always(func(l *engine.Live) float64 { return float64(l.Flights.Len()) }))
}

func (c *engineCollector) argon2id() {
	c.counter("argon2id_runs_total", "Argon2id computations of all kinds.",
		func(l *engine.Live) float64 { return float64(l.Verifier.Stats().Argon2Runs) })
	c.gauge("argon2id_slots", "How many Argon2id computations may run at once.",
		always(func(l *engine.Live) float64 { return float64(l.Slots.Stats().Total) }))
	c.gauge("argon2id_slots_in_use", "Slots in which a computation runs.",
		always(func(l *engine.Live) float64 { return float64(l.Slots.Stats().InUse) }))
	c.gauge("argon2id_queue_length", "Verifications that wait for a slot.",
		always(func(l *engine.Live) float64 { return float64(l.Slots.Stats().Queued) }))
	c.gauge("argon2id_queue_capacity", "Verifications that may wait; beyond it requests get 503.",
		always(func(l *engine.Live) float64 { return float64(l.Slots.Stats().Capacity) }))
}

// adoption is what there is with adopt_keys alone.
func (c *engineCollector) adoption() {
	figure := func(of func(adopt.Stats) float64) func(*engine.Live, time.Time) (float64, bool) {
		return func(l *engine.Live, _ time.Time) (float64, bool) {
			return of(l.Adopt.Stats()), l.Adopt != nil
		}
	}
	c.gauge("adoption_candidates", "Keys of other services that have not been found yet. Each string that was not minted here is tried against all of them.",
		figure(func(s adopt.Stats) float64 { return float64(s.Candidates) }))
	c.gauge("adoption_candidates_limit", "How many of them are tried. Where there are more, strings that are none of the oldest get 503.",
		figure(func(adopt.Stats) float64 { return adopt.MaxCandidates }))
	c.gauge("adoption_searches", "Strings that are looked for, or wait for it.",
		figure(func(s adopt.Stats) float64 { return float64(s.Waiting) }))
	c.all = append(c.all, reading{
		describe("adoption_argon2id_runs_total", "Argon2id computations of searches, in argon2id_runs_total too."), prometheus.CounterValue,
		figure(func(s adopt.Stats) float64 { return float64(s.Argon2Runs) }),
	})
}

func (c *engineCollector) lease() {
	c.gauge("lease_duration_seconds", "The configured length of the lease.",
		always(func(l *engine.Live) float64 { return l.Lease.Stats().TTL.Seconds() }))
	c.gauge("lease_remaining_seconds", "For how long memory may still be trusted without the store; 0 without a lease, when requests get 503.",
		always(func(l *engine.Live) float64 { return l.Lease.Stats().Remaining.Seconds() }))
	c.gauge("lease_age_seconds", "Since when the store has not extended the lease. There is none without a lease.",
		func(l *engine.Live, _ time.Time) (float64, bool) {
			s := l.Lease.Stats()
			return s.Age.Seconds(), s.Standing != coherence.None
		})
	c.gauge("changes_watched", "1 if memory may be trusted; 0 without a lease, "+
		"or if the store does not log every change of a key, so that every request reads its row.",
		always(func(l *engine.Live) float64 { return boolean(l.Lease.Stats().Standing == coherence.Cached) }))
	c.gauge("revocation_epoch", "Number of the newest change of a key that this instance has applied.",
		always(func(l *engine.Live) float64 { return float64(l.Follower.Place().Applied.Rev) }))
}

// behind is what is written behind.
func (c *engineCollector) behind() {
	c.gauge("last_used_waiting", "Keys whose last use is not written yet.",
		always(func(l *engine.Live) float64 { return float64(l.Recorder.Stats().Waiting) }))
	c.gauge("last_used_lag_seconds", "Age of the oldest last use that is not written yet; 0 for none.",
		func(l *engine.Live, now time.Time) (float64, bool) { return lag(l, now).Seconds(), true })
	c.gauge("audit_queue_length", "Audit records that wait to be written.",
		always(func(l *engine.Live) float64 { return float64(l.Audit.Stats().Waiting) }))
	c.gauge("audit_queue_capacity", "Audit records that may wait; beyond it they are dropped.",
		always(func(l *engine.Live) float64 { return float64(l.Audit.Stats().Capacity) }))
	c.counter("audit_dropped_total", "Audit records that were dropped. The audit log says so too.",
		func(l *engine.Live) float64 { return float64(l.Audit.Stats().Lost) })
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe implements [prometheus.Collector].
func (c *engineCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- c.running
	descs <- c.breaker
	for _, r := range c.all {
		descs <- r.desc
	}
}

// Collect implements [prometheus.Collector].
func (c *engineCollector) Collect(into chan<- prometheus.Metric) {
	state, ok := c.current()
	if !ok {
		return
	}
	into <- prometheus.MustNewConstMetric(c.running, prometheus.GaugeValue, boolean(len(state.missing()) == 0))
	if state.Redis != nil {
		for name, is := range state.Redis.Breaker {
			into <- prometheus.MustNewConstMetric(c.breaker, prometheus.GaugeValue, boolean(is), name)
		}
	}
	live := state.Live
	if live == nil {
		return
	}
	now := c.now()
	for _, r := range c.all {
		if value, ok := r.read(live, now); ok {
			into <- prometheus.MustNewConstMetric(r.desc, r.kind, value)
		}
	}
}

var _ prometheus.Collector = (*engineCollector)(nil)
