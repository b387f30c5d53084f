package assertion

import (
	"context"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/lumio-vision/caddy-system-keys/internal/verify"
)

// Config says what assertions are like.
type Config struct {
	// Audience is for whom they are. Required.
	Audience string
	// Issuer is [DefaultIssuer] if it is empty.
	Issuer string
	// TTL is how long each holds: whole seconds, a minute at most, which is the
	// default.
	TTL time.Duration
	// Unbound leaves out the request, so that one assertion serves a key for half
	// of its TTL.
	Unbound bool
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

// maxReused bounds the assertions that are kept to be used again.
const maxReused = 4096

// Maker makes the assertions of one configuration. It is safe for concurrent use.
type Maker struct {
	config Config
	reused *lru.Cache[*verify.Identity, reusable] // nil if they are bound
}

// reusable is an assertion that others can have too.
type reusable struct {
	token string
	until time.Time
}

// New makes a maker.
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
	m := &Maker{config: config}
	if config.Unbound {
		var err error
		if m.reused, err = lru.New[*verify.Identity, reusable](maxReused); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Make signs that the key has called, with this method and URL. The error is
// [ErrUnpublished], or that of ctx.
func (m *Maker) Make(ctx context.Context, signer *Signer, id *verify.Identity, method, url string) (string, error) {
	c := claims{
		Issuer: m.config.Issuer, Audience: m.config.Audience,
		Subject: id.ID.String(), Label: id.Label, Permissions: id.Permissions,
	}
	if m.reused == nil {
		c.Method, c.URL = method, url
		return signer.sign(ctx, &c, m.config.TTL)
	}
	if have, ok := m.reused.Get(id); ok && signer.now().Before(have.until) {
		return have.token, nil
	}
	token, err := signer.sign(ctx, &c, m.config.TTL)
	if err == nil {
		m.reused.Add(id, reusable{token, time.Unix(c.IssuedAt, 0).Add(m.config.TTL / 2)})
	}
	return token, err
}
