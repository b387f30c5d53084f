package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/jwtauth"
)

// JWT says which JSON Web Tokens (RFC 7519) make somebody an admin. A token must
// have a subject and an expiry.
type JWT struct {
	// The keys of the issuer: the URL or the file of a JSON Web Key Set. It is
	// read again every five minutes, and sooner when a token names a key that is
	// not in it. While it cannot be read the last one serves for an hour; after
	// that tokens get 503. Either this or `key` is required.
	JWKS string `json:"jwks,omitempty"`

	// The one key: a public key in PEM form, or the secret of an HS algorithm.
	// Use `{file.…}` or `{env.…}`.
	Key string `json:"key,omitempty"`

	// The signature algorithms that are accepted, such as `RS256` or `EdDSA`.
	// Required.
	Algorithms []string `json:"algorithms,omitempty"`

	// What a token must have as its issuer. Required.
	Issuer string `json:"issuer,omitempty"`

	// What a token must have among its audiences. Required.
	Audience string `json:"audience,omitempty"`

	// The claim that lists permissions, as an array of strings or as one string
	// with blanks between them. Default: `permissions`.
	PermissionsClaim string `json:"permissions_claim,omitempty"`

	// The claim that makes a system admin if it is the boolean true. Default:
	// `is_system`.
	SystemClaim string `json:"system_claim,omitempty"`
}

func (j *JWT) config() jwtauth.Config {
	return jwtauth.Config{
		JWKS: j.JWKS, Key: []byte(j.Key), Algorithms: j.Algorithms, Issuer: j.Issuer, Audience: j.Audience,
		PermissionsClaim: j.PermissionsClaim, SystemClaim: j.SystemClaim,
	}
}

func (j *JWT) unmarshal(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	one := map[string]*string{
		"jwks": &j.JWKS, "key": &j.Key, "issuer": &j.Issuer, "audience": &j.Audience,
		"permissions_claim": &j.PermissionsClaim, "system_claim": &j.SystemClaim,
	}
	err := inBlock(d, func(name string) error {
		value, ok := one[name]
		switch {
		case ok && !d.AllArgs(value):
			return d.ArgErr()
		case ok:
		case name == "algorithms":
			if j.Algorithms = d.RemainingArgs(); len(j.Algorithms) == 0 {
				return d.ArgErr()
			}
		default:
			return d.Errf("jwt: unrecognized option %q", name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	config := j.config()
	return wrap(d, config.Check())
}

// tokens is a verifier that is there when the app has started: until then no
// placeholder is resolved.
type tokens struct {
	app      *App
	verifier atomic.Pointer[jwtauth.Verifier]
}

func (t *tokens) start(settings *JWT, repl *caddy.Replacer) error {
	config := settings.config()
	for name, value := range map[string]*string{"jwks": &config.JWKS, "issuer": &config.Issuer, "audience": &config.Audience} {
		if *value == "" {
			continue // checked before
		}
		text, err := Resolve(repl, *value)
		if err != nil {
			return fmt.Errorf("jwt: %s: %w", name, err)
		}
		*value = text
	}
	if settings.Key != "" {
		key, err := Resolve(repl, settings.Key)
		if err != nil {
			return fmt.Errorf("jwt: key: %w", err)
		}
		config.Key = []byte(key)
	}
	verifier, err := jwtauth.New(config)
	t.verifier.Store(verifier)
	return err
}

// verify is [jwtauth.Verifier.Verify], once the app has started.
func (t *tokens) verify(ctx context.Context, token string) (*jwtauth.Claims, error) {
	verifier := t.verifier.Load()
	if verifier == nil {
		if _, err := t.app.running(ctx); err != nil {
			return nil, err
		}
		if verifier = t.verifier.Load(); verifier == nil {
			return nil, errors.Join(engine.ErrNotReady, errors.New("no key of the issuer is known"))
		}
	}
	return verifier.Verify(ctx, token)
}
