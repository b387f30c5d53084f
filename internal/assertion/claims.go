package assertion

import (
	"crypto/rand"
	"encoding/json"
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
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	// Subject is the public id of the key that called.
	Subject     string   `json:"sub"`
	Label       string   `json:"label"`
	Permissions []string `json:"permissions"`
	IssuedAt    int64    `json:"iat"`
	ExpiresAt   int64    `json:"exp"`
	ID          string   `json:"jti"`
	// Method and URL are those of the client's request; see RFC 9449 section 4.2,
	// from which the names are taken.
	Method string `json:"htm,omitempty"`
	URL    string `json:"htu,omitempty"`
}

// stamp sets when the claims were issued and when they expire, and gives them an id.
func (c *claims) stamp(now time.Time, ttl time.Duration) {
	c.IssuedAt = now.Unix()
	c.ExpiresAt = c.IssuedAt + int64(ttl/time.Second)
	c.ID = rand.Text()
}

// encode renders the claims as JSON. An upstream may rely on a list of permissions, so
// no permissions are an empty list and never null.
func (c *claims) encode() []byte {
	if c.Permissions == nil {
		c.Permissions = []string{}
	}
	return encodeJSON(c)
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
