// Package assertion signs what an upstream is told about a caller. The upstream then
// need not trust the network between the proxy and itself.
//
// An assertion is a JWT (RFC 7519), signed with Ed25519 (RFC 8037), or with a secret. It says who called,
// which audience it is for, until when it is valid, and which request it belongs to.
//
// # Keys
//
// An instance makes its signing key when it starts. The private half never leaves its
// memory. The public half is in the store with an expiry, which the instance moves on
// while it lives. Any instance serves the public halves of all. So there is nothing to
// distribute, to back up or to steal from a disk, and the key of a dead instance expires.
//
// Nobody may see a signature whose key cannot be read. So a key is published before its
// first use, for as long as any instance may still serve an older set. It stays published
// until the last assertion that it has signed has expired. This holds when the key is
// replaced, when the instance stops, and when it crashes.
//
// # Shared secrets
//
// With a secret that the upstream has too, assertions are signed with HMAC-SHA256, for a
// fiftieth of the cost. Nothing is published then. Whoever has the secret can sign, so it
// is for one audience. A verifier knows by its configuration which algorithm it accepts.
package assertion

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/lru"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
)

// Config says what assertions are like.
type Config struct {
	// Audience names the service that the assertions are for. Required.
	Audience string
	// Issuer is [DefaultIssuer] if it is empty.
	Issuer string
	// TTL is how long each assertion is valid, in whole seconds. The default is a minute,
	// which is also the maximum.
	TTL time.Duration
	// Unbound leaves out the request, so that one assertion serves a key for half
	// of its TTL.
	Unbound bool
	// Secrets sign in place of the keys of a [Signer]. The first one does; upstreams may
	// still accept the others. [New] checks them, and Check does not: they are known when
	// a configuration starts.
	Secrets [][]byte
}

// Check reports what is wrong with the settings.
func (c *Config) Check() error {
	if c.Audience == "" {
		return errors.New("assertion: an audience is required")
	}
	if c.TTL != 0 && (c.TTL < minTTL || c.TTL > MaxTTL || c.TTL%time.Second != 0) {
		return fmt.Errorf("assertion: ttl must be whole seconds from %v to %v, not %v", minTTL, MaxTTL, c.TTL)
	}
	return nil
}

// maxReused bounds the assertions that a [Maker] keeps in order to use them again.
const maxReused = 4096

// Maker makes the assertions of one configuration. It is safe for concurrent use.
type Maker struct {
	config Config
	secret *secret                                // nil if a Signer signs
	reused *lru.Cache[*verify.Identity, reusable] // nil if assertions are bound to requests
}

// reusable is an unbound assertion. It serves other requests of the same key until then.
type reusable struct {
	token string
	until time.Time
}

// New makes a maker. The error is that of [Config.Check], or about a secret.
func New(config Config) (*Maker, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	if config.Issuer == "" {
		config.Issuer = DefaultIssuer
	}
	if config.TTL == 0 {
		config.TTL = MaxTTL
	}
	secrets, err := newSecrets(config.Secrets)
	if err != nil {
		return nil, err
	}
	config.Secrets = nil // nothing needs their text any more
	m := &Maker{config: config}
	if len(secrets) > 0 {
		m.secret = secrets[0]
	}
	if config.Unbound {
		m.reused = lru.New[*verify.Identity, reusable](maxReused)
	}
	return m, nil
}

// Make signs that the key has called, with this method and URL. An unbound assertion
// leaves both out. The error is [ErrUnpublished], or that of ctx. With a secret there is
// none.
func (m *Maker) Make(ctx context.Context, signer *Signer, id *verify.Identity, method, url string) (string, error) {
	c := claims{
		Issuer: m.config.Issuer, Audience: m.config.Audience,
		Subject: id.ID.String(), Label: id.Label, Permissions: id.Permissions,
	}
	if m.reused == nil {
		c.Method, c.URL = method, url
		return m.sign(ctx, signer, &c)
	}
	if have, ok := m.reused.Get(id); ok && signer.now().Before(have.until) {
		return have.token, nil
	}
	token, err := m.sign(ctx, signer, &c)
	if err == nil {
		m.reused.Add(id, reusable{token, time.Unix(c.IssuedAt, 0).Add(m.config.TTL / 2)})
	}
	return token, err
}

func (m *Maker) sign(ctx context.Context, signer *Signer, c *claims) (string, error) {
	if m.secret == nil {
		return signer.sign(ctx, c, m.config.TTL)
	}
	c.stamp(signer.now(), m.config.TTL)
	return c.sign(m.secret.header, m.secret), nil
}
