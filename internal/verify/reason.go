package verify

import (
	"errors"
	"time"
)

// ErrInvalidToken matches every [Reason]: the presented key is not accepted,
// and the client is told nothing more than that.
var ErrInvalidToken = errors.New("invalid token")

// Reason is why a key was not accepted. It is for metrics and for the log; a
// client gets the same answer for all of them.
type Reason string

// The reasons for which a key is refused.
const (
	// ReasonUnminted is a string that this system did not mint, of whatever
	// shape: malformed ones are not told apart, here or by time.
	ReasonUnminted Reason = "unminted"
	// ReasonUnknown is a minted key whose row is gone: revoked, for the most part.
	ReasonUnknown Reason = "unknown"
	// ReasonMismatch is a minted key whose row holds the hash of another.
	ReasonMismatch Reason = "mismatch"
	// ReasonExpired is a key whose time is over.
	ReasonExpired Reason = "expired"
)

func (r Reason) Error() string { return "invalid token: " + string(r) }

// Is makes every reason match [ErrInvalidToken].
func (Reason) Is(target error) bool { return target == ErrInvalidToken }

// UnavailableError says that it could not be found out whether a key is good:
// the store did not answer, or there was no free slot to verify it in. The
// client should come back, with the same key.
type UnavailableError struct {
	// RetryAfter is how long the client should wait.
	RetryAfter time.Duration
	// Err is the cause, for the log.
	Err error
}

func (e *UnavailableError) Error() string { return "verification unavailable: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

func unavailable(err error) *UnavailableError {
	return &UnavailableError{RetryAfter: time.Second, Err: err}
}
