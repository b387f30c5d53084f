// Package jwtauth verifies the JSON Web Tokens (RFC 7519) of people. Another service has
// signed the tokens.
//
// It follows RFC 8725 (JWT Best Current Practices). The configuration says which algorithms
// are accepted, and the token does not. A key is used only with the algorithms of its own
// type. Issuer and audience are compared, an expiry is required, and the type of a token is
// checked.
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
	"github.com/lumio-vision/caddy-system-keys/store"
)

// ErrInvalid says that a token is not accepted. Any other error of [Verifier.Verify] says
// that the token could not be checked.
var ErrInvalid = errors.New("the token is not valid")

const (
	// maxToken bounds a token, in bytes.
	maxToken = 16 << 10
	// maxSubject bounds the subject, in bytes.
	maxSubject = 255
	// skew is how far the issuer's clock may differ (RFC 7519 section 4.1.4).
	skew = 5 * time.Second
	// assertionType is the type of the tokens that this proxy signs for upstreams; see
	// package assertion. Such a token says who called. It must not make an admin.
	assertionType = "lumio-key+jwt"
)

// Claims are what a token says about a person. The issuer vouches for them. Nobody has checked
// whether the permissions are of a form that keys can have.
type Claims struct {
	// Subject identifies the person to the issuer. It is never empty.
	Subject string
	// Name is the person's name for display, and may be empty. It is as short and as
	// harmless as a label: see [store.RepairLabel].
	Name string
	// Permissions are sorted, and each is there once.
	Permissions []string
	// IsSystem says that the person is a system admin.
	IsSystem bool
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
		if v.keys, err = singleKey(key, config.Now); err != nil {
			return nil, err
		}
	case config.remote():
		v.keys = &keys{load: fromURL(config.JWKS), now: config.Now}
	default:
		v.keys = &keys{load: fromFile(config.JWKS), now: config.Now}
	}
	return v, nil
}

// leastSecret returns how many bytes a secret must have: as many as the longest hash among
// the algorithms (RFC 7518 section 3.2).
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

// Verify returns the claims of a token, or [ErrInvalid]. Another error says that the keys
// of the issuer could not be read, or is that of ctx.
func (v *Verifier) Verify(ctx context.Context, token string) (*Claims, error) {
	algorithm, id, ok := v.header(token)
	if !ok {
		return nil, ErrInvalid
	}
	// A token need not name its key, so each candidate is tried.
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

// header reads the token's header, before the signature is verified: only to choose a key,
// and to refuse a token early.
func (v *Verifier) header(token string) (algorithm jwa.SignatureAlgorithm, keyID string, ok bool) {
	// These checks come before the library parses anything, so that a hostile token is cheap.
	if len(token) > maxToken || strings.Count(token, ".") != 2 || strings.ContainsFunc(token, isNotCompact) {
		return algorithm, "", false
	}
	first, _, _ := strings.Cut(token, ".")
	if text, err := base64.RawURLEncoding.DecodeString(first); err != nil || nesting.Check(text) != nil {
		return algorithm, "", false
	}
	message, err := jws.Parse([]byte(token), jws.WithCompact())
	// A token has one signature. Only the JSON form of RFC 7515 may have several.
	if err != nil || len(message.Signatures()) != 1 {
		return algorithm, "", false
	}
	header := message.Signatures()[0].ProtectedHeaders()
	// The configuration says which algorithms are good. The token only chooses one of them
	// (RFC 8725 section 3.1).
	algorithm, ok = header.Algorithm()
	if !ok || !v.config.allows(algorithm) {
		return algorithm, "", false
	}
	// A media type may have "application/" before the type (RFC 7515 section 4.1.9), so the
	// end is compared.
	if kind, _ := header.Type(); strings.HasSuffix(strings.ToLower(kind), assertionType) {
		return algorithm, "", false
	}
	if _, critical := header.Critical(); critical {
		return algorithm, "", false // no critical extension is supported here
	}
	keyID, _ = header.KeyID()
	return algorithm, keyID, true
}

// isNotCompact reports whether a character cannot be in a token in compact form (RFC 7515
// section 7.1). Decoders of base64 ignore line breaks, so they do not find this.
func isNotCompact(c rune) bool {
	return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' && c != '.'
}

// fits reports whether the key is for the algorithm (RFC 8725 section 3.1).
func fits(key jwk.Key, algorithm jwa.SignatureAlgorithm) bool {
	// A key that names its algorithm is for that one alone.
	if named, ok := key.Algorithm(); ok && named.String() != algorithm.String() {
		return false
	}
	// Otherwise its type must be right. A public key must never serve as an HMAC secret.
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

// claims checks the claims of a token whose signature is good. The error is [ErrInvalid], for
// whatever is wrong: an answer in more words would help whoever tries tokens.
func (v *Verifier) claims(payload []byte) (*Claims, error) {
	if nesting.Check(payload) != nil || !hasValidTimes(payload) || !utf8.Valid(payload) {
		return nil, ErrInvalid
	}
	token, err := jwt.ParseInsecure(payload) // its signature was verified
	if err != nil {
		return nil, ErrInvalid
	}
	// A subject is required, because it names the person in the audit log.
	err = jwt.Validate(token,
		jwt.WithClock(jwt.ClockFunc(v.config.Now)), jwt.WithAcceptableSkew(skew),
		jwt.WithIssuer(v.config.Issuer), jwt.WithAudience(v.config.Audience),
		jwt.WithRequiredClaim(jwt.ExpirationKey), jwt.WithRequiredClaim(jwt.SubjectKey))
	subject, _ := token.Subject()
	if err != nil || subject == "" || len(subject) > maxSubject || strings.ContainsFunc(subject, isUnstorable) {
		return nil, ErrInvalid
	}
	name, _ := claim(token, "name").(string)
	return &Claims{
		Subject:     subject,
		Name:        store.RepairLabel(name),
		Permissions: permissions(claim(token, v.config.PermissionsClaim)),
		IsSystem:    claim(token, v.config.SystemClaim) == true, // neither "true" nor 1
	}, nil
}

// maxTime is the last second of the year 9999, since the Unix epoch.
const maxTime = 253402300799

// hasValidTimes reports whether the claims are one JSON object, and its times are numbers of
// seconds within the calendar (RFC 7519 section 2). The library would also accept text as a
// time, any number, and further text behind the object.
func hasValidTimes(payload []byte) bool {
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
		if err != nil || seconds < 0 || seconds > maxTime {
			return false
		}
	}
	return true
}

// isUnstorable reports whether a character must not be in a subject. PostgreSQL cannot
// store NUL, and the replacement character stands for a character that is lost already.
func isUnstorable(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }

// claim returns the value of a claim, or nil if the token does not have it. If no claim has
// this very name, it is a path through objects, with dots between their names.
func claim(token jwt.Token, path string) (value any) {
	name, rest, nested := strings.Cut(path, ".")
	if token.Has(path) {
		name, nested = path, false
	}
	_ = token.Get(name, &value) // fails if the claim is absent
	for nested {
		object, _ := value.(map[string]any) // nil, which has no members, if it is no object
		name, rest, nested = strings.Cut(rest, ".")
		value = object[name]
	}
	return value
}

// permissions reads a claim that is a list of strings, or one string with blanks. Any other
// value is no permissions: what cannot be read grants nothing.
func permissions(claim any) []string {
	var list []string
	switch claim := claim.(type) {
	case string:
		list = strings.Fields(claim)
	case []any:
		for _, element := range claim {
			if permission, ok := element.(string); ok {
				list = append(list, permission)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
