package gate

import (
	"errors"
	"net/http"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Decision is what is known of a request, and what becomes of it. [Gate.Read] makes it,
// [Decision.Admitted] adds whose key it is, and [Gate.Decide] ends it. Whoever counts,
// records or answers a request reads it here, and finds nothing out again.
type Decision struct {
	// Key is the system key that the request has brought, or empty.
	Key string
	// KeyID is whose key it is, good or not. It is zero if that is not known.
	KeyID store.ID
	// Identity is who calls. It is nil for a request without a key, and for one whose key
	// is not good. It stays if the request is refused for another reason.
	Identity *verify.Identity
	// Refusal is the answer to a request that may not go on, or nil.
	Refusal *Refusal
}

// Admitted adds what [verify.Verifier.Admit] has said of the key.
func (d *Decision) Admitted(id store.ID, identity *verify.Identity, err error) {
	d.KeyID, d.Identity = id, identity
	if err != nil {
		d.Refusal = Refuse(err)
	}
}

// Earlier adds who an earlier gate has let through on the same request, or nil. That gate
// has taken the key away.
func (d *Decision) Earlier(identity *verify.Identity) {
	if identity != nil {
		d.KeyID, d.Identity = identity.ID, identity
	}
}

// Reason is why a request goes on or is refused, in one word: the label of a metric, and
// a field of the access log.
type Reason string

// The reasons of a request that goes on.
const (
	AllowedKey       Reason = "key"             // by its own key
	AllowedEarlier   Reason = "earlier_handler" // on the word of an earlier handler
	AllowedAnonymous Reason = "anonymous"       // with passthrough
)

// The reasons of a [Refusal]. Those that are not explained are those of [verify.Reason].
const (
	DeniedNoKey      Reason = "no_key"
	DeniedMalformed  Reason = "malformed" // on its looks
	DeniedUnminted          = Reason(verify.ReasonUnminted)
	DeniedRevoked           = Reason(verify.ReasonRevoked)
	DeniedMismatch          = Reason(verify.ReasonMismatch)
	DeniedExpired           = Reason(verify.ReasonExpired)
	DeniedPermission Reason = "permission"
	DeniedRequest    Reason = "invalid_request"
	DeniedMisplaced  Reason = "misplaced" // a key stands where none belongs
	DeniedTooMany    Reason = "too_many_failures"

	UnavailableBusy             = Reason(verify.ReasonBusy)
	UnavailableLease            = Reason(verify.ReasonNoLease)
	UnavailableNotReady         = Reason(verify.ReasonNotReady)
	UnavailableAdoption         = Reason(verify.ReasonAdoption)
	UnavailableStore            = Reason(verify.ReasonStore)
	UnavailableAssertion Reason = "assertion"   // it cannot be signed
	AbandonedClient      Reason = "client_gone" // its client went away while it was verified
)

// Allowed is the reason of a request that goes on.
func (d *Decision) Allowed() Reason {
	switch {
	case d.Key != "":
		return AllowedKey
	case d.Identity != nil:
		return AllowedEarlier
	}
	return AllowedAnonymous
}

// Refuse is the answer to a key that a verifier has not accepted.
func Refuse(err error) *Refusal {
	if reason, ok := errors.AsType[verify.Reason](err); ok {
		return Invalid(Reason(reason))
	}
	if u, ok := errors.AsType[*verify.UnavailableError](err); ok {
		return Unavailable(Reason(u.Reason), u.RetryAfter, err)
	}
	return Unavailable(AbandonedClient, time.Second, err) // the error of the request's context
}

// Final reports whether the refusal is of the key or of the request itself, so that no
// other handler may accept the request. A handler without a need for a key, or for this
// permission, may.
func (r *Refusal) Final() bool {
	return r.Reason != DeniedNoKey && r.Status != http.StatusForbidden
}
