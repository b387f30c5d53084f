package caddymodule

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

// engines holds one engine for each set of settings that a running
// configuration has. During a reload two configurations share one.
var engines = caddy.NewUsagePool()

// poolKey is the digest of resolved settings. It is what the pool is keyed by:
// with the settings as written a changed secret file would go unnoticed, and
// with the resolved ones the secrets would lie about in memory and in panics.
type poolKey [sha256.Size]byte

// pooled is an engine in the pool. It prints as its name: the pool's panics
// print what they hold.
type pooled struct{ engine *engine.Engine }

// Destruct implements [caddy.Destructor]. The requests that an earlier
// configuration let through may still be running when it is unloaded: the engine
// goes on in the background until the last has ended, so that they can be cut.
// Only the end of the process does not wait so long.
func (p pooled) Destruct() error { return retired.retire(p.engine) }

// GoString keeps the settings, secrets among them, out of panics.
func (pooled) GoString() string { return "system_keys engine" }

// String keeps the settings out of every other text.
func (p pooled) String() string { return p.GoString() }

// settings are the app's with every placeholder replaced.
type settings struct {
	Store            Location
	Redis            []string
	Argon2id         phc.Params
	HashMemory       int64
	Lease            time.Duration
	OnLapse          string
	Secrets          []string
	AdoptKeys        bool
	LastUsedInterval time.Duration
	AuditRetention   time.Duration
}

func (s *settings) key() poolKey {
	b, err := json.Marshal(s)
	if err != nil { // strings and numbers always encode
		panic(err)
	}
	return sha256.Sum256(b)
}

// resolve replaces the placeholders. One that is unknown or empty is an error:
// an empty secret would authenticate whatever anybody writes.
func (a *App) resolve(repl *caddy.Replacer) (*settings, error) {
	params, err := a.Argon2id.params()
	if err != nil {
		return nil, err
	}
	s := &settings{
		Argon2id:         params,
		HashMemory:       a.HashMemory,
		Lease:            time.Duration(a.Lease),
		OnLapse:          a.OnLapse,
		AdoptKeys:        a.AdoptKeys,
		LastUsedInterval: time.Duration(a.LastUsedInterval),
		AuditRetention:   time.Duration(a.AuditRetention),
	}
	if s.Store, err = a.source.Locate(repl); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if s.Redis, err = resolveAll(repl, "redis", a.Redis); err != nil {
		return nil, err
	}
	if s.Secrets, err = resolveAll(repl, "secret", a.Secret); err != nil {
		return nil, err
	}
	for i, secret := range s.Secrets {
		if len(secret) < 16 {
			a.logger.Warn("secret is short: use 32 random bytes", slog.Int("number", i+1))
		}
	}
	return s, nil
}

func resolveAll(repl *caddy.Replacer, name string, values []string) ([]string, error) {
	var resolved []string
	for i, value := range values {
		text, err := resolveOne(repl, value)
		if err != nil {
			return nil, fmt.Errorf("%s, value %d: %w", name, i+1, err)
		}
		resolved = append(resolved, text)
	}
	return resolved, nil
}

// named finds placeholders that may be named in an error. What else stands in
// braces may be part of a secret.
var named = regexp.MustCompile(`\{(?:env|file|system)\.[^{}]*\}`)

func resolveOne(repl *caddy.Replacer, value string) (string, error) {
	text, err := repl.ReplaceOrErr(value, true, true)
	if err != nil {
		return "", fmt.Errorf("a placeholder is unknown or empty %s", named.FindAllString(value, -1))
	}
	if text == "" {
		return "", errors.New("is empty")
	}
	return text, nil
}

// acquire takes a reference on the engine for these settings, and makes it if
// there is none.
func (a *App) acquire(s *settings) (*engine.Engine, error) {
	key := s.key()
	value, _, err := engines.LoadOrNew(key, func() (caddy.Destructor, error) {
		e, err := newEngine(s)
		if err != nil {
			return nil, err
		}
		return pooled{e}, nil
	})
	if err != nil {
		return nil, err
	}
	e := value.(pooled).engine
	detach := e.Attach(a.logger)
	a.holding.Lock()
	defer a.holding.Unlock()
	a.release = func() error {
		_, err := engines.Delete(key)
		detach() // what the end of the engine has to say is logged still
		return err
	}
	return e, nil
}

// giveBack drops the reference, once for each that was taken.
func (a *App) giveBack() error {
	a.holding.Lock()
	defer a.holding.Unlock()
	if a.release == nil {
		return nil
	}
	release := a.release
	a.release = nil
	return release()
}

// systems are the databases of the drivers as OpenTelemetry calls them.
var systems = map[string]string{"sqlite": "sqlite", "postgres": "postgresql"}

// newEngine makes an engine without any input or output.
func newEngine(s *settings) (e *engine.Engine, err error) {
	config := engine.Config{
		Open:             func(ctx context.Context) (store.Store, error) { return s.Store.Open(ctx, e.Logger()) },
		Embedded:         s.Store.Embedded,
		System:           systems[s.Store.Driver],
		Argon2id:         s.Argon2id,
		HashMemory:       s.HashMemory,
		Lease:            s.Lease,
		KeepOnLapse:      s.OnLapse == lapseKeep,
		AdoptKeys:        s.AdoptKeys,
		Name:             instanceName(),
		LastUsedInterval: s.LastUsedInterval,
		AuditRetention:   s.AuditRetention,
		Meter:            measured,
	}
	for _, secret := range s.Secrets {
		config.Secrets = append(config.Secrets, []byte(secret))
	}
	if len(s.Redis) > 0 {
		config.Proofs = func(logger *slog.Logger) (engine.Proofs, error) {
			return redis.New(s.Redis, redis.Options{Logger: logger})
		}
	}
	e, err = engine.New(config)
	return e, err
}

// live returns the parts of the engine, once its store is open.
func (a *App) live(ctx context.Context) (*engine.Live, error) {
	e, err := a.running(ctx)
	if err != nil {
		return nil, err
	}
	return e.Live()
}
