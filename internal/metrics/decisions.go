package metrics

import "github.com/prometheus/client_golang/prometheus"

// The names of all metrics begin with these.
const (
	namespace = "caddy"
	subsystem = "system_keys"
)

// Decision is what became of a request at a handler, and why.
type Decision int

// The decisions that there are. A request that is denied got 401 unless said
// otherwise.
const (
	AllowedKey       Decision = iota
	AllowedEarlier            // on the word of an earlier handler
	AllowedAnonymous          // with passthrough

	DeniedNoKey
	DeniedMalformed // on its looks
	DeniedUnminted  // see [verify.Reason], as for the next three
	DeniedRevoked   // or never kept
	DeniedMismatch  // the row holds another's hash
	DeniedExpired
	DeniedPermission // 403
	DeniedRequest    // 400 and 405
	DeniedMisplaced  // 400: a key stands where none belongs
	DeniedTooMany    // 429

	UnavailableBusy // no Argon2id slot
	UnavailableLease
	UnavailableNotReady  // the store is not open yet, or not any more
	UnavailableAdoption  // a key of another service is searched for, or cannot be
	UnavailableAssertion // it cannot be signed
	UnavailableStore     // anything else

	AbandonedClient // its client went away while it was verified
)

// decisionLabels are the values of the labels, by decision.
var decisionLabels = [...]struct{ result, reason string }{
	AllowedKey:       {"allowed", "key"},
	AllowedEarlier:   {"allowed", "earlier_handler"},
	AllowedAnonymous: {"allowed", "anonymous"},

	DeniedNoKey:      {"denied", "no_key"},
	DeniedMalformed:  {"denied", "malformed"},
	DeniedUnminted:   {"denied", "unminted"},
	DeniedRevoked:    {"denied", "revoked"},
	DeniedMismatch:   {"denied", "mismatch"},
	DeniedExpired:    {"denied", "expired"},
	DeniedPermission: {"denied", "permission"},
	DeniedRequest:    {"denied", "invalid_request"},
	DeniedMisplaced:  {"denied", "misplaced"},
	DeniedTooMany:    {"denied", "too_many_failures"},

	UnavailableBusy:      {"unavailable", "busy"},
	UnavailableLease:     {"unavailable", "no_lease"},
	UnavailableNotReady:  {"unavailable", "not_ready"},
	UnavailableAdoption:  {"unavailable", "adoption"},
	UnavailableAssertion: {"unavailable", "assertion"},
	UnavailableStore:     {"unavailable", "store"},

	AbandonedClient: {"abandoned", "client_gone"},
}

// Reason says why, in one word.
func (d Decision) Reason() string { return decisionLabels[d].reason }

// decisions counts them. All counters are made beforehand, so that they are there
// from the start, and a request with a good key costs one addition.
type decisions struct {
	*prometheus.CounterVec
	counters [len(decisionLabels)]prometheus.Counter
}

func newDecisions() *decisions {
	d := &decisions{CounterVec: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "decisions_total",
		Help: "Requests that system_key_auth, or the provider system_key, has decided on, by result and reason.",
	}, []string{"result", "reason"})}
	for i, labels := range decisionLabels {
		d.counters[i] = d.WithLabelValues(labels.result, labels.reason)
	}
	return d
}
