package verify

import (
	"errors"
	"slices"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/header"
	"github.com/lumio-vision/caddy-system-keys/internal/usage"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Identity says who called. All requests of a key share it, so it must not be changed.
type Identity struct {
	ID          store.ID
	Label       string
	Permissions []string // sorted
	// IsSystem gives access to the admin plane.
	IsSystem bool
	// ExpiresAt is zero for a key that never expires.
	ExpiresAt time.Time
	// Headers are the values that the upstream receives. They are rendered once per key.
	Headers header.Values

	uses *usage.Mark // nil counts nothing
}

// Has reports whether the key itself has the permission, and notes that it was asked of the
// key. IsSystem does not count, since it is for the admin plane alone.
func (id *Identity) Has(permission string) bool {
	id.Asked(permission)
	_, found := slices.BinarySearch(id.Permissions, permission)
	return found
}

// Asked notes that the permission was asked of the key. It costs no allocation, but for the
// first time in a while.
func (id *Identity) Asked(permission string) { id.uses.Ask(permission) }

func (id *Identity) expired(now time.Time) bool {
	return !id.ExpiresAt.IsZero() && !now.Before(id.ExpiresAt)
}

// IdentityOf returns the identity of a key.
func IdentityOf(key *store.Key) *Identity {
	permissions := slices.Sorted(slices.Values(key.Permissions))
	return &Identity{
		ID:          key.ID,
		Label:       key.Label,
		Permissions: permissions,
		IsSystem:    key.IsSystem,
		ExpiresAt:   key.ExpiresAt,
		Headers:     header.Render(key.ID.String(), key.Label, permissions),
	}
}

// ErrInvalidToken matches every [Reason]. The key is not accepted, and the client learns
// nothing more than that.
var ErrInvalidToken = errors.New("invalid token")

// Reason is why a key was not accepted, in one word. It is for metrics, logs and audit
// records. A client gets the same answer for every reason to refuse a key.
type Reason string

// The reasons for which a key is refused, which are errors.
const (
	// ReasonUnminted is for a string that this system did not mint. Malformed strings have
	// the same reason, and take the same time.
	ReasonUnminted Reason = "unminted"
	// ReasonRevoked is for a key whose row is gone, or never was in this store.
	ReasonRevoked Reason = "revoked"
	// ReasonMismatch is for a key whose row holds the hash of another key.
	ReasonMismatch Reason = "mismatch"
	// ReasonExpired is for a key that has expired.
	ReasonExpired Reason = "expired"
)

// The reasons of an [UnavailableError].
const (
	// ReasonBusy says that no Argon2id slot was free.
	ReasonBusy Reason = "busy"
	// ReasonNoLease says that changes of keys may not have reached this instance.
	ReasonNoLease Reason = "no_lease"
	// ReasonNotReady says that the store is not open yet, or is closed.
	ReasonNotReady Reason = "not_ready"
	// ReasonAdoption says that the row of another service's key is being searched for, or
	// cannot be searched for now.
	ReasonAdoption Reason = "adoption"
	// ReasonUnfollowed says that the key came from a table of another service, and that it
	// may have been revoked there.
	ReasonUnfollowed Reason = "unfollowed"
	// ReasonStore says that the store did not answer.
	ReasonStore Reason = "store"
)

func (r Reason) Error() string { return "invalid token: " + string(r) }

// Is makes every reason match [ErrInvalidToken].
func (Reason) Is(target error) bool { return target == ErrInvalidToken }

// UnavailableError says that a key could not be checked, for example because the store did
// not answer or no slot was free. The client should try again with the same key.
type UnavailableError struct {
	Reason Reason
	// RetryAfter is how long the client should wait.
	RetryAfter time.Duration
	// Err is the cause, for the log.
	Err error
}

func (e *UnavailableError) Error() string { return "verification unavailable: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// Unavailable makes an error that asks the client to come back in a second.
func Unavailable(reason Reason, err error) *UnavailableError {
	return &UnavailableError{Reason: reason, RetryAfter: time.Second, Err: err}
}

// unanswered makes the error for a store that did not answer.
func unanswered(err error) *UnavailableError {
	if errors.Is(err, store.ErrClosed) {
		return Unavailable(ReasonNotReady, err)
	}
	return Unavailable(ReasonStore, err)
}
