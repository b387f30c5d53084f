package verify

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/header"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Identity is who called. It is shared by all requests of a key and must not
// be changed.
type Identity struct {
	ID          store.ID
	Label       string
	Permissions []string // sorted
	IsSystem    bool
	// ExpiresAt is zero for a key that never expires.
	ExpiresAt time.Time
	// Headers are the values that the upstream receives, rendered once.
	Headers header.Values

	// Boxed are the values of Caddy's placeholders, boxed once so that setting
	// them costs a request no allocation.
	Boxed Boxed
}

// Boxed holds the identity's text as interface values.
type Boxed struct {
	ID, Label, Permissions any
}

// Has reports whether the key itself holds the permission. What IsSystem gives
// is not counted: it is for the admin plane alone.
func (id *Identity) Has(permission string) bool {
	_, found := slices.BinarySearch(id.Permissions, permission)
	return found
}

func (id *Identity) expired(now time.Time) bool {
	return !id.ExpiresAt.IsZero() && !now.Before(id.ExpiresAt)
}

// IdentityOf is who calls with a key.
func IdentityOf(key *store.Key) *Identity {
	id := key.ID.String()
	permissions := slices.Sorted(slices.Values(key.Permissions))
	return &Identity{
		ID:          key.ID,
		Label:       key.Label,
		Permissions: permissions,
		IsSystem:    key.IsSystem,
		ExpiresAt:   key.ExpiresAt,
		Headers:     header.Render(id, key.Label, permissions),
		Boxed:       Boxed{ID: id, Label: key.Label, Permissions: strings.Join(permissions, ",")},
	}
}

// ErrInvalidToken matches every [Reason]: the presented key is not accepted,
// and the client is told nothing more than that.
var ErrInvalidToken = errors.New("invalid token")

// Reason is why a key was not accepted, in one word. It is for metrics, logs and audit
// records; a client gets the same answer for all keys that are refused.
type Reason string

// The reasons for which a key is refused, which are errors.
const (
	// ReasonUnminted is a string that this system did not mint, of whatever
	// shape: malformed ones are not told apart, here or by time.
	ReasonUnminted Reason = "unminted"
	// ReasonRevoked is a key whose row is gone, or never was in this store.
	ReasonRevoked Reason = "revoked"
	// ReasonMismatch is a minted key whose row holds the hash of another.
	ReasonMismatch Reason = "mismatch"
	// ReasonExpired is a key whose time is over.
	ReasonExpired Reason = "expired"
)

// The reasons of an [UnavailableError].
const (
	// ReasonBusy is that no Argon2id slot was free.
	ReasonBusy Reason = "busy"
	// ReasonNoLease is that changes of keys may not have reached this instance.
	ReasonNoLease Reason = "no_lease"
	// ReasonNotReady is that the store is not open yet, or not any more.
	ReasonNotReady Reason = "not_ready"
	// ReasonAdoption is a key of another service that is searched for, or cannot be now.
	ReasonAdoption Reason = "adoption"
	// ReasonStore is anything else that the store did not say.
	ReasonStore Reason = "store"
)

func (r Reason) Error() string { return "invalid token: " + string(r) }

// Is makes every reason match [ErrInvalidToken].
func (Reason) Is(target error) bool { return target == ErrInvalidToken }

// UnavailableError says that it could not be found out whether a key is good:
// the store did not answer, or there was no free slot to verify it in. The
// client should come back, with the same key.
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

// Unavailable is the error for a cause that may have ended in a second.
func Unavailable(reason Reason, err error) *UnavailableError {
	return &UnavailableError{Reason: reason, RetryAfter: time.Second, Err: err}
}

// unanswered is the error for a store that did not answer.
func unanswered(err error) *UnavailableError {
	if errors.Is(err, store.ErrClosed) {
		return Unavailable(ReasonNotReady, err)
	}
	return Unavailable(ReasonStore, err)
}
