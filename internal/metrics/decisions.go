package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
)

// The names of all metrics begin with these.
const (
	namespace = "caddy"
	subsystem = "system_keys"
)

// reasons are all that there are, by result. A request that is denied got 401 unless
// said otherwise.
var reasons = map[string][]gate.Reason{
	"allowed": {gate.AllowedKey, gate.AllowedEarlier, gate.AllowedAnonymous},
	"denied": {
		gate.DeniedNoKey, gate.DeniedMalformed, gate.DeniedUnminted, gate.DeniedRevoked, gate.DeniedMismatch, gate.DeniedExpired,
		gate.DeniedPermission, // 403
		gate.DeniedRequest,    // 400 and 405
		gate.DeniedMisplaced,  // 400
		gate.DeniedTooMany,    // 429
	},
	"unavailable": {
		gate.UnavailableBusy, gate.UnavailableLease, gate.UnavailableNotReady, gate.UnavailableAdoption,
		gate.UnavailableAssertion, gate.UnavailableStore,
	},
	"abandoned": {gate.AbandonedClient},
}

// decisions counts them. All counters are made beforehand, so that they are there
// from the start, and a request with a good key costs one addition.
type decisions struct {
	*prometheus.CounterVec
	counters map[gate.Reason]prometheus.Counter
}

func newDecisions() *decisions {
	d := &decisions{counters: make(map[gate.Reason]prometheus.Counter), CounterVec: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "decisions_total",
		Help: "Requests that system_key_auth, or the provider system_key, has decided on, by result and reason.",
	}, []string{"result", "reason"})}
	for result, all := range reasons {
		for _, reason := range all {
			d.counters[reason] = d.WithLabelValues(result, string(reason))
		}
	}
	return d
}
