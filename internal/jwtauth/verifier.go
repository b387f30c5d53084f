// Package jwtauth verifies the JSON Web Tokens (RFC 7519) of people, which
// another service has signed.
//
// What is accepted follows RFC 8725 (JWT Best Current Practices): the algorithm
// is pinned by configuration and never taken from the token, a key is used with
// the algorithms of its own type only, issuer and audience are compared, an
// expiry is demanded, and tokens of another kind are told apart by their type.
package jwtauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/lestrrat-go/jwx/v3/jwt"

	"github.com/lumio-vision/caddy-system-keys/internal/nesting"
)

// ErrInvalid says that a token is not accepted. Any other error of
// [Verifier.Verify] says that it could not be found out.
var ErrInvalid = errors.New("the token is not valid")

const (
	// maxToken bounds a token, in bytes.
	maxToken = 16 << 10
	// maxSubject bounds the subject, in bytes.
	maxSubject = 255
	// skew is how far the issuer's clock may differ (RFC 7519 section 4.1.4).
	skew = 5 * time.Second
	// assertionType is the type of tokens that this proxy makes itself, for
	// upstreams: they say who called, and not that he is an admin.
	assertionType = "lumio-key+jwt"
)

// Claims are what a token says of a person.
type Claims struct {
	Subject string
	// Name is for people, and may be empty.
	Name        string
	Permissions []string
	IsSystem    bool
}

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	config Config
	keys   *keys
}

// New makes a verifier. It reads nothing yet. No error repeats the key.
func New(config Config) (*Verifier, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	if config.PermissionsClaim == "" {
		config.PermissionsClaim = DefaultPermissionsClaim
	}
	if config.SystemClaim == "" {
		config.SystemClaim = DefaultSystemClaim
	}
	if config.Now == nil {
		config.Now = time.Now //nolint:forbidigo // the default clock
	}
	v := &Verifier{config: config}
	switch {
	case len(config.Key) > 0:
		key, err := parseKey(config.Key, isSecret(config.Algorithms[0]), leastSecret(config.Algorithms))
		if err != nil {
			return nil, err
		}
		if v.keys, err = one(key, config.Now); err != nil {
			return nil, err
		}
	case config.remote():
		v.keys = &keys{load: fromURL(config.JWKS), now: config.Now}
	default:
		v.keys = &keys{load: fromFile(config.JWKS), now: config.Now}
	}
	return v, nil
}

// leastSecret is the length of the longest hash among the algorithms, in bytes.
func leastSecret(algorithms []string) int {
	least := 32
	for _, name := range algorithms {
		switch {
		case strings.HasSuffix(name, "512"):
			least = max(least, 64)
		case strings.HasSuffix(name, "384"):
			least = max(least, 48)
		}
	}
	return least
}

// Verify returns what a token says, or [ErrInvalid].
func (v *Verifier) Verify(ctx context.Context, token string) (*Claims, error) {
	algorithm, id, ok := v.header(token)
	if !ok {
		return nil, ErrInvalid
	}
	candidates, err := v.keys.find(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("verify token: %w", err)
	}
	for _, key := range candidates {
		if !fits(key, algorithm) {
			continue
		}
		if payload, err := jws.Verify([]byte(token), jws.WithKey(algorithm, key)); err == nil {
			return v.claims(payload)
		}
	}
	return nil, ErrInvalid
}

// header reads what the token says of itself, before anything of it is believed.
func (v *Verifier) header(token string) (algorithm jwa.SignatureAlgorithm, key string, ok bool) {
	if len(token) > maxToken || strings.Count(token, ".") != 2 || strings.ContainsFunc(token, isForeign) {
		return algorithm, "", false
	}
	first, _, _ := strings.Cut(token, ".")
	if text, err := base64.RawURLEncoding.DecodeString(first); err != nil || nesting.Check(text) != nil {
		return algorithm, "", false
	}
	message, err := jws.Parse([]byte(token), jws.WithCompact())
	if err != nil || len(message.Signatures()) != 1 {
		return algorithm, "", false
	}
	header := message.Signatures()[0].ProtectedHeaders()
	algorithm, ok = header.Algorithm()
	if !ok || !v.config.allows(algorithm) {
		return algorithm, "", false
	}
	if kind, _ := header.Type(); strings.HasSuffix(strings.ToLower(kind), assertionType) {
		return algorithm, "", false
	}
	if _, critical := header.Critical(); critical {
		return algorithm, "", false // nothing that can be critical is understood here
	}
	key, _ = header.KeyID()
	return algorithm, key, true
}

// isForeign reports whether a character is none of a token in compact form (RFC
// 7515 section 7.1). Decoders of base64 pass over line breaks.
func isForeign(c rune) bool {
	return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' && c != '.'
}

// fits reports whether the key is for the algorithm (RFC 8725 section 3.1).
func fits(key jwk.Key, algorithm jwa.SignatureAlgorithm) bool {
	if of, ok := key.Algorithm(); ok && of.String() != algorithm.String() {
		return false
	}
	switch name := algorithm.String(); name[:2] {
	case "HS":
		return key.KeyType() == jwa.OctetSeq()
	case "RS", "PS":
		return key.KeyType() == jwa.RSA()
	case "ES":
		return key.KeyType() == jwa.EC()
	}
	return key.KeyType() == jwa.OKP()
}

func (v *Verifier) claims(payload []byte) (*Claims, error) {
	if nesting.Check(payload) != nil || !timed(payload) || !utf8.Valid(payload) {
		return nil, ErrInvalid
	}
	token, err := jwt.ParseInsecure(payload) // its signature was verified
	if err != nil {
		return nil, ErrInvalid
	}
	err = jwt.Validate(token,
		jwt.WithClock(jwt.ClockFunc(v.config.Now)), jwt.WithAcceptableSkew(skew),
		jwt.WithIssuer(v.config.Issuer), jwt.WithAudience(v.config.Audience),
		jwt.WithRequiredClaim(jwt.ExpirationKey), jwt.WithRequiredClaim(jwt.SubjectKey))
	subject, _ := token.Subject()
	if err != nil || subject == "" || len(subject) > maxSubject || strings.ContainsFunc(subject, isUnkeepable) {
		return nil, ErrInvalid
	}
	claims := &Claims{Subject: subject, Name: text(token, "name")}
	claims.Permissions = permissions(token, v.config.PermissionsClaim)
	var system any
	if token.Get(v.config.SystemClaim, &system) == nil {
		claims.IsSystem = system == true // no "true", no 1
	}
	return claims, nil
}

// latest is the last second of the year 9999.
const latest = 253402300799

// timed reports whether the claims are one JSON object whose times are numbers of
// seconds that some calendar has (RFC 7519 section 2). The library also takes text
// for a time, and computes with whatever number there is; and it leaves what stands
// behind the object.
func timed(payload []byte) bool {
	var claims map[string]json.RawMessage
	if json.Unmarshal(payload, &claims) != nil {
		return false
	}
	for _, name := range []string{jwt.ExpirationKey, jwt.NotBeforeKey, jwt.IssuedAtKey} {
		text, ok := claims[name]
		if !ok {
			continue
		}
		seconds, err := strconv.ParseFloat(string(text), 64)
		if err != nil || seconds < 0 || seconds > latest {
			return false
		}
	}
	return true
}

// isUnkeepable reports whether a character can be no part of a name: PostgreSQL
// keeps no NUL, and the replacement character stands for what was lost already.
func isUnkeepable(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }

func text(token jwt.Token, claim string) string {
	var value any
	_ = token.Get(claim, &value) // absent is as good as empty
	s, _ := value.(string)
	return s
}

// permissions reads a list of strings, or one string that is a list. Anything
// else gives none.
func permissions(token jwt.Token, claim string) []string {
	var value any
	_ = token.Get(claim, &value) // absent is none
	var list []string
	switch value := value.(type) {
	case string:
		list = strings.Fields(value)
	case []any:
		for _, one := range value {
			if s, ok := one.(string); ok {
				list = append(list, s)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
