package verify

import (
	"context"
	"errors"

	"github.com/lumio-vision/caddy-system-keys/internal/adopt"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// adopt is Admit for a string that this system did not mint. It finds out whose the string
// may be, and goes on as for a key that says so itself. What it finds is a hint, so that all
// rules for keys hold unchanged.
func (v *Verifier) adopt(ctx context.Context, key string, flight *coherence.Flight) (*Identity, error) {
	if v.config.Adopt == nil || !token.Foreign(key) {
		return nil, ReasonUnminted
	}
	digest := token.Digest(key)
	match, err := v.config.Adopt.Find(ctx, key, digest, store.ID{})
	if err != nil {
		return nil, v.notFound(match.Outcome, err, ReasonUnminted)
	}
	identity, err := v.admit(ctx, &presented{id: match.ID, key: key, digest: digest, computed: match.Computed}, flight)
	if reason, ok := errors.AsType[Reason](err); ok && reason != ReasonExpired {
		// The row that was found is not that of the string any more. Another one may be.
		if match, err = v.config.Adopt.Find(ctx, key, digest, match.ID); err != nil {
			return nil, v.notFound(match.Outcome, err, reason)
		}
		identity, err = v.admit(ctx, &presented{id: match.ID, key: key, digest: digest, computed: match.Computed}, flight)
	}
	v.config.Meter.Adopted(match.Outcome)
	return identity, err
}

// notFound is the answer for a string that no row was found for. The reason is for a
// string that is nobody's key.
func (v *Verifier) notFound(outcome adopt.Outcome, err error, reason Reason) error {
	if outcome == "" { // the client went away
		return err
	}
	v.config.Meter.Adopted(outcome)
	if errors.Is(err, adopt.ErrNotFound) {
		return reason
	}
	if later, ok := errors.AsType[*adopt.LaterError](err); ok {
		return &UnavailableError{RetryAfter: later.RetryAfter, Err: err}
	}
	return unavailable(err)
}
