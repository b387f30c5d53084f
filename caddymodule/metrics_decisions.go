package caddymodule

import (
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lumio-vision/caddy-system-keys/internal/adopt"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// decision is what became of a request at a handler, and why.
type decision struct{ result, reason string }

// The results of decisions.
const (
	resultAllowed     = "allowed"
	resultDenied      = "denied"
	resultUnavailable = "unavailable"
	resultAbandoned   = "abandoned" // its client went away while it was verified
)

// The decisions that there are.
var (
	allowedKey       = decision{resultAllowed, "key"}
	allowedEarlier   = decision{resultAllowed, "earlier_handler"} // on whose word it goes on
	allowedAnonymous = decision{resultAllowed, "anonymous"}       // with passthrough

	deniedNoKey     = decision{resultDenied, "no_key"}
	deniedMalformed = decision{resultDenied, "malformed"}       // 401 on its looks
	deniedUnminted  = decision{resultDenied, "unminted"}        // see [verify.Reason]
	deniedUnknown   = decision{resultDenied, "revoked"}         // or never kept
	deniedMismatch  = decision{resultDenied, "mismatch"}        // the row holds another's hash
	deniedExpired   = decision{resultDenied, "expired"}         //
	deniedScope     = decision{resultDenied, "permission"}      // 403
	deniedRequest   = decision{resultDenied, "invalid_request"} // 400 and 405
	deniedMisplaced = decision{resultDenied, "misplaced"}       // 400: a key stands where none belongs
	deniedTooMany   = decision{resultDenied, "too_many_failures"}

	unavailableBusy      = decision{resultUnavailable, "busy"}      // no Argon2id slot
	unavailableLease     = decision{resultUnavailable, "no_lease"}  //
	unavailableNotOpen   = decision{resultUnavailable, "not_ready"} // not yet, or not any more
	unavailableAdoption  = decision{resultUnavailable, "adoption"}  // a key of another service is searched for, or cannot be
	unavailableAssertion = decision{resultUnavailable, "assertion"} // cannot be signed
	unavailableStore     = decision{resultUnavailable, "store"}     // anything else

	abandonedClient = decision{resultAbandoned, "client_gone"}
)

func allDecisions() []decision {
	return []decision{
		allowedKey, allowedEarlier, allowedAnonymous,
		deniedNoKey, deniedMalformed, deniedUnminted, deniedUnknown, deniedMismatch, deniedExpired, deniedScope, deniedRequest, deniedMisplaced, deniedTooMany,
		unavailableBusy, unavailableLease, unavailableNotOpen, unavailableAdoption, unavailableAssertion, unavailableStore,
		abandonedClient,
	}
}

// decisions counts them. All counters are made beforehand, so that they are there
// from the start, and a request with a good key costs one addition.
type decisions struct {
	vector   *prometheus.CounterVec
	key      prometheus.Counter
	counters map[decision]prometheus.Counter
}

func newDecisions() *decisions {
	d := &decisions{
		vector: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "decisions_total",
			Help: "Requests that system_key_auth, or the provider system_key, has decided on, by result and reason.",
		}, []string{"result", "reason"}),
		counters: make(map[decision]prometheus.Counter),
	}
	for _, one := range allDecisions() {
		d.counters[one] = d.vector.WithLabelValues(one.result, one.reason)
	}
	d.key = d.counters[allowedKey]
	return d
}

// allowed counts a request that goes on: by its own key, or with the identity that
// an earlier handler has found, or without any.
func (d *decisions) allowed(byKey bool, identity *verify.Identity) {
	switch {
	case byKey:
		d.key.Inc()
	case identity != nil:
		d.counters[allowedEarlier].Inc()
	default:
		d.counters[allowedAnonymous].Inc()
	}
}

// refused counts a request that does not, and returns the reason. The error says why
// its key was not accepted, if that was found out; identity is that of a key that was
// good.
func (d *decisions) refused(refusal *gate.Refusal, identity *verify.Identity, err error) string {
	one := decisionOf(refusal, identity, err)
	d.counters[one].Inc()
	return one.reason
}

func decisionOf(refusal *gate.Refusal, identity *verify.Identity, err error) decision {
	switch refusal.Status {
	case http.StatusBadRequest, http.StatusMethodNotAllowed:
		if errors.Is(refusal, gate.ErrMisplaced) {
			return deniedMisplaced
		}
		return deniedRequest
	case http.StatusForbidden:
		return deniedScope
	case http.StatusTooManyRequests:
		return deniedTooMany
	case http.StatusUnauthorized:
		return deniedOf(refusal, err)
	}
	return unavailableOf(refusal.Err, identity)
}

func deniedOf(refusal *gate.Refusal, err error) decision {
	if refusal == gate.Anonymous() {
		return deniedNoKey
	}
	if reason, ok := errors.AsType[verify.Reason](err); ok {
		switch reason {
		case verify.ReasonUnminted:
			return deniedUnminted
		case verify.ReasonUnknown:
			return deniedUnknown
		case verify.ReasonMismatch:
			return deniedMismatch
		case verify.ReasonExpired:
			return deniedExpired
		}
	}
	return deniedMalformed
}

func unavailableOf(err error, identity *verify.Identity) decision {
	_, unavailable := errors.AsType[*verify.UnavailableError](err)
	switch {
	case !unavailable && identity != nil:
		return unavailableAssertion
	case !unavailable: // what is left is the error of the request's context
		return abandonedClient
	case errors.Is(err, adopt.ErrLater):
		return unavailableAdoption
	case errors.Is(err, verify.ErrBusy):
		return unavailableBusy
	case errors.Is(err, verify.ErrNoLease):
		return unavailableLease
	case errors.Is(err, engine.ErrNotReady), errors.Is(err, store.ErrClosed):
		return unavailableNotOpen
	}
	return unavailableStore
}

var _ engine.Meter = (*metrics)(nil)
