package caddymodule

import (
	"errors"
	"net/http"

	"github.com/lumio-vision/caddy-system-keys/internal/adopt"
	"github.com/lumio-vision/caddy-system-keys/internal/cut"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/metrics"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// countAllowed counts a request that goes on: by its own key, or with the identity
// that an earlier handler has found, or without any.
func countAllowed(byKey bool, identity *verify.Identity) {
	switch {
	case byKey:
		measured.Decided(metrics.AllowedKey)
	case identity != nil:
		measured.Decided(metrics.AllowedEarlier)
	default:
		measured.Decided(metrics.AllowedAnonymous)
	}
}

// countRefused counts a request that does not, and returns the reason. The error says
// why its key was not accepted, if that was found out; identity is that of a key that
// was good.
func countRefused(refusal *gate.Refusal, identity *verify.Identity, err error) string {
	d := decisionOf(refusal, identity, err)
	measured.Decided(d)
	return d.Reason()
}

// countCut counts a request that was cut, and returns why, in the word for a request
// that is refused for the same.
func countCut(cause error) string {
	if errors.Is(cause, cut.ErrLapsed) {
		measured.Cut(metrics.CutLapsed)
		return metrics.UnavailableLease.Reason()
	}
	measured.Cut(metrics.CutKey)
	if errors.Is(cause, cut.ErrExpired) {
		return metrics.DeniedExpired.Reason()
	}
	return metrics.DeniedRevoked.Reason()
}

func decisionOf(refusal *gate.Refusal, identity *verify.Identity, err error) metrics.Decision {
	switch refusal.Status {
	case http.StatusBadRequest, http.StatusMethodNotAllowed:
		if errors.Is(refusal, gate.ErrMisplaced) {
			return metrics.DeniedMisplaced
		}
		return metrics.DeniedRequest
	case http.StatusForbidden:
		return metrics.DeniedPermission
	case http.StatusTooManyRequests:
		return metrics.DeniedTooMany
	case http.StatusUnauthorized:
		return deniedOf(refusal, err)
	}
	return unavailableOf(refusal.Err, identity)
}

func deniedOf(refusal *gate.Refusal, err error) metrics.Decision {
	if refusal == gate.Anonymous() {
		return metrics.DeniedNoKey
	}
	if reason, ok := errors.AsType[verify.Reason](err); ok {
		switch reason {
		case verify.ReasonUnminted:
			return metrics.DeniedUnminted
		case verify.ReasonUnknown:
			return metrics.DeniedRevoked
		case verify.ReasonMismatch:
			return metrics.DeniedMismatch
		case verify.ReasonExpired:
			return metrics.DeniedExpired
		}
	}
	return metrics.DeniedMalformed
}

func unavailableOf(err error, identity *verify.Identity) metrics.Decision {
	_, unavailable := errors.AsType[*verify.UnavailableError](err)
	switch {
	case !unavailable && identity != nil:
		return metrics.UnavailableAssertion
	case !unavailable: // what is left is the error of the request's context
		return metrics.AbandonedClient
	case errors.Is(err, adopt.ErrLater):
		return metrics.UnavailableAdoption
	case errors.Is(err, verify.ErrBusy):
		return metrics.UnavailableBusy
	case errors.Is(err, verify.ErrNoLease):
		return metrics.UnavailableLease
	case errors.Is(err, engine.ErrNotReady), errors.Is(err, store.ErrClosed):
		return metrics.UnavailableNotReady
	}
	return metrics.UnavailableStore
}
