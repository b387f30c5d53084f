package gate

import (
	"errors"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/header"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// Decision is what is known about a request, and whether it goes on. [Gate.Read] makes a
// decision, [Decision.Admitted] or [Decision.Earlier] adds the identity, and [Gate.Decide]
// ends it. Metrics, audit records and answers all read the same decision.
type Decision struct {
	// Key is the system key in the request, or empty.
	Key string
	// KeyID is the id of the key, good or bad. It is zero if the id is not known.
	KeyID store.ID
	// Identity is the caller. It is nil for a request without a key, and for a bad key.
	// If the request is refused for another reason, the identity stays.
	Identity *verify.Identity
	// Refusal is the answer to a request that may not go on, or nil.
	Refusal *Refusal

	// fields is the request's copy of the identity's, so that the copy costs no allocation
	// of its own.
	fields header.Values
}

// Admitted adds what [verify.Verifier.Admit] has returned for the key.
func (d *Decision) Admitted(id store.ID, identity *verify.Identity, err error) {
	d.KeyID, d.Identity = id, identity
	if err != nil {
		d.Refusal = Refuse(err)
	}
}

// Earlier adds the identity that an earlier gate has let through on the same request, or
// nil. That gate has removed the key from the request.
func (d *Decision) Earlier(identity *verify.Identity) {
	if identity != nil {
		d.KeyID, d.Identity = identity.ID, identity
	}
}

// Reason says in one word why a request goes on or is refused. It is the label of a metric,
// and a field of the access log.
type Reason string

// The reasons of a request that goes on.
const (
	AllowedKey       Reason = "key"             // by its own key
	AllowedEarlier   Reason = "earlier_handler" // on the word of an earlier handler
	AllowedAnonymous Reason = "anonymous"       // with passthrough
)

// The reasons of a [Refusal]. [verify.Reason] explains those that have no comment here.
const (
	DeniedNoKey      Reason = "no_key"
	DeniedMalformed  Reason = "malformed" // it looks like a key, but is not a bearer token
	DeniedUnminted          = Reason(verify.ReasonUnminted)
	DeniedRevoked           = Reason(verify.ReasonRevoked)
	DeniedMismatch          = Reason(verify.ReasonMismatch)
	DeniedExpired           = Reason(verify.ReasonExpired)
	DeniedNetwork    Reason = "network" // the client is outside of the key's networks
	DeniedPermission Reason = "permission"
	DeniedRequest    Reason = "invalid_request"
	DeniedMisplaced  Reason = "misplaced" // a key stands where none belongs
	DeniedTooMany    Reason = "too_many_failures"

	UnavailableBusy              = Reason(verify.ReasonBusy)
	UnavailableLease             = Reason(verify.ReasonNoLease)
	UnavailableNotReady          = Reason(verify.ReasonNotReady)
	UnavailableAdoption          = Reason(verify.ReasonAdoption)
	UnavailableUnfollowed        = Reason(verify.ReasonUnfollowed)
	UnavailableStore             = Reason(verify.ReasonStore)
	UnavailableAssertion  Reason = "assertion"   // it cannot be signed
	AbandonedClient       Reason = "client_gone" // the client went away during the verification
)

// Allowed returns the reason of a request that goes on.
func (d *Decision) Allowed() Reason {
	switch {
	case d.Key != "":
		return AllowedKey
	case d.Identity != nil:
		return AllowedEarlier
	}
	return AllowedAnonymous
}

// Refuse returns the answer to a key that a verifier has not admitted.
func Refuse(err error) *Refusal {
	if reason, ok := errors.AsType[verify.Reason](err); ok {
		return Invalid(Reason(reason))
	}
	if u, ok := errors.AsType[*verify.UnavailableError](err); ok {
		return Unavailable(Reason(u.Reason), u.RetryAfter, err)
	}
	if errors.Is(err, verify.ErrNetwork) {
		return OtherNetwork()
	}
	// Any other error is that of the request's context: the client has gone away.
	return Unavailable(AbandonedClient, time.Second, err)
}

// Final reports whether no other handler may accept the request: the key or the request itself
// is bad, or the key may not be used from there. If only a key or a permission is missing, the
// refusal is not final: another handler may not need it.
func (r *Refusal) Final() bool {
	return r.Reason != DeniedNoKey && r.Reason != DeniedPermission
}
