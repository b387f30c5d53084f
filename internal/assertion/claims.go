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
	// DefaultIssuer is who signs unless it is configured.
	DefaultIssuer = "caddy-system-keys"
	// MaxTTL is how long an assertion may hold, and how long it does by default.
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

// stamp says from when to when the claims hold, and gives them an id.
func (c *claims) stamp(now time.Time, ttl time.Duration) {
	c.IssuedAt = now.Unix()
	c.ExpiresAt = c.IssuedAt + int64(ttl/time.Second)
	c.ID = rand.Text()
}

// encode gives the claims as JSON. Text that is not valid UTF-8 is made so.
func (c *claims) encode() []byte {
	if c.Permissions == nil {
		c.Permissions = []string{}
	}
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings and numbers can be encoded
	}
	return b
}

// Target is the URL of a request as an assertion has it: without query, the
// scheme and the host in lower case, without the scheme's own port. The path is
// as it was escaped by the client; an empty one, of the absolute form, is "/" (RFC
// 9110 section 4.2.3). Scheme and host are those that the client has used.
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
