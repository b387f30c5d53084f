package assertion

import (
	"crypto/rand"
	"encoding/json"
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
