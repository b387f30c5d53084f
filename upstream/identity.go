package upstream

import (
	"context"
	"slices"
	"time"
)

// Identity is who called, as the proxy has signed it. It must not be changed.
type Identity struct {
	// KeyID is the public id of the system key, a UUID.
	KeyID string
	// Label is for people. It is not unique.
	Label string
	// Permissions that the key holds, sorted.
	Permissions []string
	// Issuer is who signed.
	Issuer string
	// AssertionID is unique to the assertion (the claim jti).
	AssertionID string
	// IssuedAt and ExpiresAt are from and until when the assertion holds.
	IssuedAt, ExpiresAt time.Time
}

// Has reports whether the key holds the permission.
func (id *Identity) Has(permission string) bool {
	return slices.Contains(id.Permissions, permission)
}

// contextKey is that of a verified.
type contextKey struct{}

// verified is an identity, and whose word it is.
type verified struct {
	by       *Verifier
	identity *Identity
}

// FromContext returns who called, if the request has come through [Verifier.Require]
// or [Verifier.Identify] with an assertion.
func FromContext(ctx context.Context) (*Identity, bool) {
	v, ok := ctx.Value(contextKey{}).(*verified)
	if !ok {
		return nil, false
	}
	return v.identity, true
}
