package jwtauth

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
)

// Defaults of [Config].
const (
	DefaultPermissionsClaim = "permissions"
	DefaultSystemClaim      = "is_system"
)

// Config says which tokens are accepted. One of JWKS and Key is required, and so are
// Algorithms, Issuer and Audience.
type Config struct {
	// JWKS is where the keys of the issuer are: an http(s) URL, or the path of a file.
	// Both must hold a JSON Web Key Set (RFC 7517 section 5).
	JWKS string
	// Key is the only key: a public key in PEM form, or a secret as it is.
	Key []byte
	// Algorithms are the signature algorithms that are accepted (RFC 7518 section 3.1,
	// RFC 8037), such as RS256 or EdDSA.
	Algorithms []string
	// Issuer and Audience must be equal to the token's (claims iss and aud).
	Issuer   string
	Audience string
	// PermissionsClaim names the claim that lists permissions. Its value is an array of
	// strings, or one string with blanks between the permissions (RFC 8693 section 4.2).
	// If no claim has this very name, it is a path into nested claims, such as
	// "realm_access.roles". [DefaultPermissionsClaim] by default.
	PermissionsClaim string
	// SystemClaim names the claim that makes a system admin if it is the boolean true. It may
	// be a path too. [DefaultSystemClaim] by default.
	SystemClaim string
	// Now is the clock, [time.Now] by default.
	Now func() time.Time
}

// algorithms are those that can be configured. "none" is not among them, since it means
// that a token is not signed (RFC 8725 section 3.2).
var algorithms = map[string]jwa.SignatureAlgorithm{
	"HS256": jwa.HS256(), "HS384": jwa.HS384(), "HS512": jwa.HS512(),
	"RS256": jwa.RS256(), "RS384": jwa.RS384(), "RS512": jwa.RS512(),
	"PS256": jwa.PS256(), "PS384": jwa.PS384(), "PS512": jwa.PS512(),
	"ES256": jwa.ES256(), "ES384": jwa.ES384(), "ES512": jwa.ES512(),
	"EdDSA": jwa.EdDSA(),
}

// Check returns an error that says what is wrong with the settings. It reads no file and no
// URL, and does not look at a JWKS setting that still holds placeholders.
func (c *Config) Check() error {
	for _, required := range []struct{ name, value string }{
		{"issuer", c.Issuer}, {"audience", c.Audience}, {"algorithms", strings.Join(c.Algorithms, "")},
	} {
		if required.value == "" {
			return fmt.Errorf("jwt: %s is required", required.name)
		}
	}
	if (c.JWKS == "") == (len(c.Key) == 0) {
		return errors.New("jwt: either jwks or key is required, and not both")
	}
	secret := 0 // how many of the algorithms take a secret
	for _, name := range c.Algorithms {
		if _, ok := algorithms[name]; !ok {
			return fmt.Errorf("jwt: there is no algorithm %q; there are RS, PS, ES and HS with 256, 384 and 512, and EdDSA", name)
		}
		if isSecret(name) {
			secret++
		}
	}
	// If a public key could serve as an HMAC secret, anybody could sign with it (RFC 8725
	// section 2.1). So the two kinds of algorithms are never mixed.
	switch {
	case secret > 0 && c.JWKS != "":
		return errors.New("jwt: the keys of a jwks are public: no HS algorithm can be used with them")
	case secret > 0 && secret < len(c.Algorithms):
		return errors.New("jwt: a key is a secret (HS algorithms) or public (the others), and never both")
	}
	if !c.remote() || strings.Contains(c.JWKS, "{") {
		return nil
	}
	// The error does not repeat the URL, which may hold a password.
	if u, err := url.Parse(c.JWKS); err != nil || u.Host == "" || u.User != nil {
		return errors.New("jwt: jwks is not a URL of the form https://host/path")
	}
	return nil
}

// remote reports whether JWKS is a URL, and not the path of a file.
func (c *Config) remote() bool {
	return strings.HasPrefix(c.JWKS, "https://") || strings.HasPrefix(c.JWKS, "http://")
}

// isSecret reports whether the key of an algorithm is a secret (HMAC) that issuer and verifier
// share. Whoever can verify such a token can also make one.
func isSecret(algorithm string) bool { return strings.HasPrefix(algorithm, "HS") }

// allows reports whether the configuration accepts an algorithm.
func (c *Config) allows(algorithm jwa.SignatureAlgorithm) bool {
	return slices.Contains(c.Algorithms, algorithm.String())
}
