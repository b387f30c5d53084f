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

// InsufficientError says that a key lacks a required permission.
type InsufficientError struct {
	// Required are all required permissions, not only the missing ones.
	Required []string
}

// Error implements [error].
func (e *InsufficientError) Error() string {
	return "a permission is missing, of " + strings.Join(e.Required, " ")
}

// Require lets a request through if the proxy has signed it and its key holds all the
// permissions. Without permissions any key will do. A request without a valid
// assertion gets 401, one that lacks a permission 403. While the public keys cannot be
// read, the answer is 503 with Retry-After.
//
// The answers say which permissions were asked of the key (X-Lumio-Required). The proxy takes
// that out, and shows it in the activity of the key. It never reaches a client.
//
// The answers have Vary: X-Lumio-Key-Id and Cache-Control: private, so that no cache gives
// the answer for one key to another. A handler that sets these fields itself replaces them.
func (v *Verifier) Require(permissions ...string) func(next http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			signed, identity, err := v.admit(r)
			if err != nil {
				v.refuse(w, r, err)
				return
			}
			v.tellCaches(w, true)
			if len(permissions) > 0 {
				// The proxy takes it out of the answer, and shows with the key what is asked of it.
				w.Header().Add(v.prefix+"Required", strings.Join(permissions, ","))
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

// Identify lets a request through if the proxy has signed it. It also lets a request
// through that carries no field under the prefix at all. [FromContext] has no identity
// for such a request. Identify is for services that have other callers too.
//
// All answers have Vary: X-Lumio-Key-Id, as those of [Verifier.Require]. Only answers to
// requests that were signed have Cache-Control: private.
func (v *Verifier) Identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		signed, _, err := v.admit(r)
		switch {
		case err == nil:
			v.tellCaches(w, true)
			next.ServeHTTP(w, signed)
		case errors.Is(err, ErrMissing) && !hasOwned(v.prefix, r.Header):
			v.tellCaches(w, false)
			next.ServeHTTP(w, r)
		default:
			v.refuse(w, r, err)
		}
	})
}

// tellCaches marks an answer as one for this key alone. The proxy has removed Authorization, so
// a cache between the proxy and this service sees no other difference. An answer to nobody
// in particular may be cached, but must not be given to a key.
func (v *Verifier) tellCaches(w http.ResponseWriter, private bool) {
	header, name := w.Header(), v.prefix+"Key-Id"
	if !slices.Contains(header["Vary"], name) { // of an earlier handler of ours
		header.Add("Vary", name)
	}
	if private && header["Cache-Control"] == nil {
		header.Set("Cache-Control", "private")
	}
}

// admit verifies a request. It returns the request with the identity in its context and
// its header. A request that passes several handlers of one verifier is verified once.
func (v *Verifier) admit(r *http.Request) (*http.Request, *Identity, error) {
	if earlier, ok := r.Context().Value(contextKey{}).(*verified); ok && earlier.by == v {
		return r, earlier.identity, nil
	}
	identity, err := v.Verify(r)
	if err != nil {
		return nil, nil, err
	}
	signed := r.WithContext(context.WithValue(r.Context(), contextKey{}, &verified{v, identity}))
	signed.Header = signedHeader(v.prefix, r.Header, identity)
	return signed, identity, nil
}

// refuse answers a request that is not let through, and logs why. A flood of bad
// requests cannot fill the log: it gets one line a second.
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

// answer is the default answer to a request that is refused. It has the same object and
// the same header fields (RFC 6750 section 3) as the proxy's own answers. It never says
// what is wrong with an assertion. It never says that the client's key is bad either:
// the service does not know that.
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
	var insufficient *InsufficientError
	switch {
	case errors.As(err, &insufficient): // errors.AsType needs Go 1.26, and a copy of this package does not
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
	_ = json.NewEncoder(w).Encode(body) // the client is gone if this fails
}

// Identity is who called, as the proxy has signed it. Handlers share it, so it must not
// be changed.
type Identity struct {
	// KeyID is the public id of the system key, a UUID.
	KeyID string
	// Label is for people. It is not unique.
	Label string
	// Permissions are what the key holds, sorted.
	Permissions []string
	// Issuer is who signed (the claim iss).
	Issuer string
	// AssertionID is unique to the assertion (the claim jti).
	AssertionID string
	// IssuedAt and ExpiresAt are when the assertion was made and until when it holds.
	IssuedAt, ExpiresAt time.Time
}

// Has reports whether the key holds the permission.
func (id *Identity) Has(permission string) bool {
	return slices.Contains(id.Permissions, permission)
}

// contextKey is the key of a [verified] in a context.
type contextKey struct{}

// verified is an identity, and the verifier that has found it.
type verified struct {
	by       *Verifier
	identity *Identity
}

// FromContext returns who called. It reports false if the request has not come through
// [Verifier.Require] or [Verifier.Identify], or came without an assertion.
func FromContext(ctx context.Context) (*Identity, bool) {
	v, ok := ctx.Value(contextKey{}).(*verified)
	if !ok {
		return nil, false
	}
	return v.identity, true
}
