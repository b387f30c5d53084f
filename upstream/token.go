package upstream

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

const (
	// tokenType is the JOSE header typ of assertions. By it no other token of the same
	// issuer is taken for an assertion (RFC 8725 section 3.11).
	tokenType = "lumio-key+jwt" //nolint:gosec // no credential
	// algorithm is the only one that a verifier of [New] accepts (RFC 8037 section 3.1).
	algorithm = "EdDSA"
	// maxToken bounds an assertion, in bytes.
	maxToken = 64 << 10
	// maxLife is how long an assertion may hold.
	maxLife = time.Minute
	// maxTime is the last second of the year 9999, in seconds since 1970. With later
	// times sums could overflow.
	maxTime = 253402300799
)

// token is an assertion in its parts. Nothing of it was verified yet.
type token struct {
	keyID     string
	signed    string // the text that is signed
	signature []byte
	payload   []byte
}

// errMalformed says that a text is no assertion. It does not say more, since the proxy
// makes no malformed one.
var errMalformed = errors.New("it is not of the form of an assertion")

// parse reads the compact serialization (RFC 7515 section 7.1). It is strict: one
// assertion has one spelling.
func (v *Verifier) parse(text string) (*token, error) {
	if len(text) > maxToken {
		return nil, errMalformed
	}
	header, rest, _ := strings.Cut(text, ".")
	payload, signature, found := strings.Cut(rest, ".") // a third dot is no base64url
	if !found {
		return nil, errMalformed
	}
	t := &token{signed: text[:len(header)+1+len(payload)]}
	var err error
	if t.payload, err = decode(payload); err != nil {
		return nil, errMalformed
	}
	if t.signature, err = decode(signature); err != nil {
		return nil, errMalformed
	}
	if id, known := v.headers[header]; known {
		t.keyID = id
		return t, nil
	}
	t.keyID, err = v.readHeader(header)
	return t, err
}

// readHeader returns the id of the key. The algorithm is that of the verifier, whatever
// the header says (RFC 8725 section 3.1).
func (v *Verifier) readHeader(encoded string) (keyID string, err error) {
	text, err := decode(encoded)
	if err != nil || !shallow(text) {
		return "", errMalformed
	}
	var header struct {
		Algorithm string          `json:"alg"`
		KeyID     string          `json:"kid"`
		Type      string          `json:"typ"`
		Critical  json.RawMessage `json:"crit"`
	}
	if err := json.Unmarshal(text, &header); err != nil {
		return "", errMalformed
	}
	want := algorithm
	if v.shared != nil {
		want = sharedAlgorithm
	}
	switch {
	case header.Algorithm != want:
		return "", errors.New("it is signed by another algorithm than " + want)
	case header.Critical != nil, header.KeyID == "":
		return "", errMalformed
	case header.Type != tokenType:
		return "", errors.New("it is another kind of token")
	}
	return header.KeyID, nil
}

// decode reads base64url without padding. It refuses line ends, which the decoder of the
// standard library passes over.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errMalformed
	}
	return base64.RawURLEncoding.Strict().DecodeString(s)
}

// claims are what an assertion says. Method and URL are missing if it was made for no
// request in particular. Every assertion has the others.
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

// claims reads the payload. Verify the signature first.
func (t *token) claims() (*claims, error) {
	c := readClaims(string(t.payload))
	if c == nil {
		c = new(claims)
		if !shallow(t.payload) || json.Unmarshal(t.payload, c) != nil {
			return nil, errMalformed
		}
	}
	if c.Subject == "" || c.ID == "" || c.Permissions == nil || c.IssuedAt <= 0 || c.ExpiresAt <= 0 || c.IssuedAt > maxTime || c.ExpiresAt > maxTime {
		return nil, errMalformed
	}
	return c, nil
}

// checkTimes reports what is wrong with the times. Clocks may differ by leeway.
func (c *claims) checkTimes(now time.Time, leeway time.Duration) error {
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

// identity is what a handler learns of the claims.
func (c *claims) identity() *Identity {
	return &Identity{
		KeyID: c.Subject, Label: c.Label, Permissions: c.Permissions, Issuer: c.Issuer, AssertionID: c.ID,
		IssuedAt: time.Unix(c.IssuedAt, 0).UTC(), ExpiresAt: time.Unix(c.ExpiresAt, 0).UTC(),
	}
}

// maxLevels is how deep a JSON text may be nested.
const maxLevels = 64

// shallow reports whether a JSON text is nested at most [maxLevels] deep. It counts
// brackets outside of strings. It is called before a text is decoded, since the decoder
// calls itself for each level.
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
