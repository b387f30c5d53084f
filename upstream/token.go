package upstream

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

const (
	// tokenType is the JOSE header typ of assertions: other tokens of the same
	// issuer are not taken for one (RFC 8725 section 3.11).
	tokenType = "lumio-key+jwt" //nolint:gosec // no credential
	// algorithm is the only one (RFC 8037 section 3.1).
	algorithm = "EdDSA"
	// maxToken bounds an assertion, in bytes.
	maxToken = 64 << 10
	// maxLife is how long an assertion may hold.
	maxLife = time.Minute
	// latest is the last second of the year 9999: with more, sums overflow.
	latest = 253402300799
)

// token is an assertion that was taken apart, and of which nothing is believed yet.
type token struct {
	keyID     string
	signed    []byte // what the signature is over
	signature []byte
	payload   []byte
}

// errMalformed says that a text is no assertion. What is wrong with it is nobody's
// concern: the proxy makes none such.
var errMalformed = errors.New("it is not of the form of an assertion")

// parse takes the compact serialization apart (RFC 7515 section 7.1), strictly: one
// assertion has one spelling.
func parse(text string) (*token, error) {
	if len(text) > maxToken {
		return nil, errMalformed
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, errMalformed
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = decode(part); err != nil || i < 2 && !shallow(decoded[i]) {
			return nil, errMalformed
		}
	}
	var header struct {
		Algorithm string          `json:"alg"`
		KeyID     string          `json:"kid"`
		Type      string          `json:"typ"`
		Critical  json.RawMessage `json:"crit"`
	}
	if err := json.Unmarshal(decoded[0], &header); err != nil {
		return nil, errMalformed
	}
	switch {
	case header.Algorithm != algorithm, header.Critical != nil, header.KeyID == "", len(decoded[2]) != ed25519.SignatureSize:
		return nil, errMalformed
	case header.Type != tokenType:
		return nil, errors.New("it is another kind of token")
	}
	return &token{
		keyID:     header.KeyID,
		signed:    []byte(text[:len(parts[0])+1+len(parts[1])]),
		signature: decoded[2],
		payload:   decoded[1],
	}, nil
}

// decode reads base64url without padding. The decoder itself passes over line
// ends.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errMalformed
	}
	return base64.RawURLEncoding.Strict().DecodeString(s)
}

// claims are what an assertion says. All but Method and URL are in every one.
type claims struct {
	Issuer      string   `json:"iss"`
	Audience    string   `json:"aud"`
	Subject     string   `json:"sub"`
	Label       string   `json:"label"`
	Permissions []string `json:"permissions"`
	IssuedAt    int64    `json:"iat"`
	ExpiresAt   int64    `json:"exp"`
	ID          string   `json:"jti"`
	Method      string   `json:"htm"`
	URL         string   `json:"htu"`
}

// claims reads the payload, whose signature was verified.
func (t *token) claims() (*claims, error) {
	var c claims
	if err := json.Unmarshal(t.payload, &c); err != nil {
		return nil, errMalformed
	}
	if c.Subject == "" || c.ID == "" || c.Permissions == nil || c.IssuedAt <= 0 || c.ExpiresAt <= 0 || c.IssuedAt > latest || c.ExpiresAt > latest {
		return nil, errMalformed
	}
	return &c, nil
}

// holds reports what is wrong with the times, if clocks may differ by leeway.
func (c *claims) holds(now time.Time, leeway time.Duration) error {
	issued, expires := time.Unix(c.IssuedAt, 0), time.Unix(c.ExpiresAt, 0)
	switch {
	case c.ExpiresAt <= c.IssuedAt, c.ExpiresAt-c.IssuedAt > int64(maxLife/time.Second):
		return errors.New("it holds for longer than a minute, or for no time")
	case !now.Before(expires.Add(leeway)):
		return errors.New("it has expired")
	case now.Add(leeway).Before(issued):
		return errors.New("it is from the future: clocks differ")
	}
	return nil
}

func (c *claims) identity() *Identity {
	return &Identity{
		KeyID: c.Subject, Label: c.Label, Permissions: c.Permissions, Issuer: c.Issuer, AssertionID: c.ID,
		IssuedAt: time.Unix(c.IssuedAt, 0).UTC(), ExpiresAt: time.Unix(c.ExpiresAt, 0).UTC(),
	}
}

// maxLevels is how deep what is decoded may be nested.
const maxLevels = 64

// shallow reports whether a JSON text keeps to that, before it is decoded: it counts
// brackets outside of strings. A decoder calls itself for each level.
func shallow(text []byte) bool {
	depth, inText, escaped := 0, false, false
	for _, c := range text {
		switch {
		case escaped:
			escaped = false
		case inText:
			escaped, inText = c == '\\', c != '"'
		case c == '"':
			inText = true
		case c == '{', c == '[':
			if depth++; depth > maxLevels {
				return false
			}
		case c == '}', c == ']':
			depth--
		}
	}
	return true
}
