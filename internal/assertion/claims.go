package assertion

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

const (
	// Type is the JOSE header typ of assertions (RFC 8725 section 3.11).
	Type = "lumio-key+jwt"
	// DefaultIssuer is the issuer if none is configured.
	DefaultIssuer = "caddy-system-keys"
	// MaxTTL is the longest time that an assertion may be valid, and the default.
	MaxTTL = time.Minute
	minTTL = time.Second
)

// claims are what an assertion says. Times are in seconds (RFC 7519 section 2).
type claims struct {
	Issuer, Audience string
	// Subject is the public id of the key that called.
	Subject             string
	Label               string
	Permissions         []string
	IssuedAt, ExpiresAt int64
	ID                  [22]byte
	// Method and URL are those of the client's request. They are left out if both are
	// empty. See RFC 9449 section 4.2, from which the names of the members are taken.
	Method, URL string
}

// stamp sets when the claims were issued and when they expire, and gives them an id. An id
// is unique and no secret (RFC 7519 section 4.1.7). The generator of package rand is
// seeded by the system, and takes a hundredth of the time of the system's own.
func (c *claims) stamp(now time.Time, ttl time.Duration) {
	c.IssuedAt = now.Unix()
	c.ExpiresAt = c.IssuedAt + int64(ttl/time.Second)
	var id [16]byte
	binary.NativeEndian.PutUint64(id[:8], rand.Uint64()) //nolint:gosec // see above
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64()) //nolint:gosec // see above
	base64.RawURLEncoding.Encode(c.ID[:], id[:])
}

// sign makes a token of the claims. The header is that of the key.
func (c *claims) sign(header string, by signs) string {
	var buffer [512]byte
	return compact(header, c.appendJSON(buffer[:0]), by)
}

// appendJSON renders the claims. Reflection would take longer than an HMAC. An upstream
// may rely on a list of permissions, so no permissions are an empty list and never null.
func (c *claims) appendJSON(b []byte) []byte {
	b = appendText(append(b, `{"iss":`...), c.Issuer)
	b = appendText(append(b, `,"aud":`...), c.Audience)
	b = appendText(append(b, `,"sub":`...), c.Subject)
	b = appendText(append(b, `,"label":`...), c.Label)
	b = append(b, `,"permissions":[`...)
	for i, permission := range c.Permissions {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, permission)
	}
	b = strconv.AppendInt(append(b, `],"iat":`...), c.IssuedAt, 10)
	b = strconv.AppendInt(append(b, `,"exp":`...), c.ExpiresAt, 10)
	b = append(append(b, `,"jti":"`...), c.ID[:]...)
	b = append(b, '"')
	if c.Method != "" || c.URL != "" {
		b = appendText(append(b, `,"htm":`...), c.Method)
		b = appendText(append(b, `,"htu":`...), c.URL)
	}
	return append(b, '}')
}

// appendText appends a text as JSON. Most are of ASCII characters that need no escape.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7E || c == '"' || c == '\\' {
			return append(b, encodeJSON(s)...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// encodeJSON encodes strings and numbers, which cannot fail. Text that is not valid
// UTF-8 is made valid.
func encodeJSON(value any) []byte {
	b, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return b
}

// Target returns the URL of a request as an assertion names it. Scheme and host are those
// that the client has used. Both are written in lower case. The URL has no query, and no
// port if the port is the scheme's own. The path is escaped as the client has escaped it.
// An empty path is "/" (RFC 9110 section 4.2.3).
func Target(scheme, host, escapedPath string) string {
	scheme, host = strings.ToLower(scheme), strings.ToLower(host)
	switch scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	switch escapedPath {
	case "":
		escapedPath = "/"
	case "*": // OPTIONS of the server as a whole: RFC 9110 section 7.1
		escapedPath = ""
	}
	return scheme + "://" + host + escapedPath
}
