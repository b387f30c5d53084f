package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"
)

// InsufficientError says that a key does not hold what is required.
type InsufficientError struct {
	// Required are all the permissions that are.
	Required []string
}

func (e *InsufficientError) Error() string {
	return "a permission is missing, of " + strings.Join(e.Required, " ")
}

// Require lets requests through that the proxy has signed, and whose key holds all
// the permissions; with none, any key. Others get 401 without a valid assertion, 403
// without a permission, and 503 with Retry-After while that cannot be found out.
func (v *Verifier) Require(permissions ...string) func(next http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			signed, identity, err := v.admit(r)
			if err != nil {
				v.refuse(w, r, err)
				return
			}
			for _, permission := range permissions {
				if !identity.Has(permission) {
					v.refuse(w, r, &InsufficientError{Required: permissions})
					return
				}
			}
			next.ServeHTTP(w, signed)
		})
	}
}

// Identify lets requests through that the proxy has signed, and also those that
// carry neither an assertion nor any other field under the prefix, for which
// [FromContext] then has no identity. It is for services with other callers beside
// system keys.
func (v *Verifier) Identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		signed, _, err := v.admit(r)
		switch {
		case err == nil:
			next.ServeHTTP(w, signed)
		case errors.Is(err, ErrMissing) && !claimed(v.prefix, r.Header):
			next.ServeHTTP(w, r)
		default:
			v.refuse(w, r, err)
		}
	})
}

// admit verifies a request, once however many handlers of one verifier it passes.
func (v *Verifier) admit(r *http.Request) (*http.Request, *Identity, error) {
	if have, ok := r.Context().Value(contextKey{}).(*verified); ok && have.by == v {
		return r, have.identity, nil
	}
	identity, err := v.Verify(r)
	if err != nil {
		return nil, nil, err
	}
	signed := r.WithContext(context.WithValue(r.Context(), contextKey{}, &verified{v, identity}))
	signed.Header = signedHeader(v.prefix, r.Header, identity)
	return signed, identity, nil
}

func (v *Verifier) refuse(w http.ResponseWriter, r *http.Request, err error) {
	level := slog.LevelDebug
	switch {
	case r.Context().Err() != nil: // the client went away
	case errors.Is(err, ErrUnavailable):
		level = slog.LevelError
	case errors.Is(err, ErrInvalid):
		level = slog.LevelWarn
	}
	if now := v.now().Unix(); v.logged.Swap(now) != now {
		v.logger.Log(r.Context(), level, "a request is refused", slog.Any("error", err))
	}
	v.answer(w, r, err)
}

// answer is the default answer to a request that is refused: the same object, and
// the same header fields (RFC 6750 section 3), as the proxy's own. It never says
// what is wrong with an assertion, nor that the client's key is not good, of which
// nothing is known.
func answer(w http.ResponseWriter, _ *http.Request, err error) {
	var body struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Status  int    `json:"status"`
		} `json:"error"`
	}
	e, header := &body.Error, w.Header()
	challenge := `Bearer realm="lumio"`
	insufficient, isInsufficient := errors.AsType[*InsufficientError](err)
	switch {
	case isInsufficient:
		e.Status, e.Code, e.Message = http.StatusForbidden, "insufficient_scope", "the system key lacks a required permission"
		challenge += `, error="insufficient_scope", scope="` + strings.Join(insufficient.Required, " ") + `"`
	case errors.Is(err, ErrMissing):
		e.Status, e.Code, e.Message = http.StatusUnauthorized, "unauthorized", "a system key is required"
	case errors.Is(err, ErrInvalid):
		e.Status, e.Code, e.Message = http.StatusUnauthorized, "invalid_assertion", "the request was not signed by the proxy"
	default:
		e.Status, e.Code, e.Message = http.StatusServiceUnavailable, "unavailable", "the caller cannot be verified at the moment"
		header.Set("Retry-After", "1")
	}
	if e.Status != http.StatusServiceUnavailable {
		header.Set("Www-Authenticate", challenge)
	}
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(body) // a client that has gone away has nobody to tell
}

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
