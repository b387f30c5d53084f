package caddymodule

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/open"
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
// At the end of the process Caddy has waited for them already.
func (p pooled) Destruct() error { return retired.retire(p.engine) }

// GoString keeps the settings, secrets among them, out of panics.
func (pooled) GoString() string { return "system_keys engine" }

// String keeps the settings out of every other text.
func (p pooled) String() string { return p.GoString() }

// settings are the app's with every placeholder replaced.
type settings struct {
	Store            open.Location
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
	params, err := a.Argon2id.Params()
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
	if s.Store, err = a.source.locate(repl); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if s.Redis, err = a.resolveRedis(repl); err != nil {
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

// resolveRedis replaces the placeholders of the URLs. If they are variables, and all
// empty, there is no Redis. A file that cannot be read stays a mistake.
func (a *App) resolveRedis(repl *caddy.Replacer) ([]string, error) {
	if !unset([]string{repl.WithoutFile().ReplaceKnown(strings.Join(a.Redis, ""), "")}) {
		return resolveAll(repl, "redis", a.Redis)
	}
	if len(a.Redis) > 0 {
		a.logger.Info("redis has no URL, since its variables are empty: servers do not share verifications")
	}
	return nil, nil
}

func resolveAll(repl *caddy.Replacer, name string, values []string) ([]string, error) {
	var resolved []string
	for i, value := range values {
		text, err := Resolve(repl, value)
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

// Resolve replaces the placeholders of a value. What a file or a variable holds
// is trimmed of blanks and line ends; what it should not hold is an error.
func Resolve(repl *caddy.Replacer, value string) (string, error) {
	text, err := repl.ReplaceFunc(value, func(_ string, found any) (any, error) {
		part := strings.TrimSpace(caddy.ToString(found))
		if part == "" {
			return nil, errors.New("a placeholder is unknown or empty")
		}
		return part, checkText(part)
	})
	if err == nil {
		text = strings.TrimSpace(text)
		err = checkText(text)
	}
	if placeholders := named.FindAllString(value, -1); err != nil && placeholders != nil {
		err = fmt.Errorf("%w %s", err, placeholders)
	}
	if err != nil {
		return "", err
	}
	if text == "" {
		return "", errors.New("is empty")
	}
	return text, nil
}

// checkText refuses what was not meant to be part of a value. Some that read files
// and variables leave it away, so that the value would be another one there.
func checkText(s string) error {
	if strings.HasPrefix(s, "\ufeff") {
		return errors.New("begins with a byte order mark (U+FEFF): save it without one")
	}
	for _, quote := range []string{`"`, "'"} {
		if len(s) > 1 && strings.HasPrefix(s, quote) && strings.HasSuffix(s, quote) {
			return errors.New("is in quotes: leave them out (docker run --env-file passes them on)")
		}
	}
	return nil
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

// newEngine makes an engine without any input or output.
func newEngine(s *settings) (e *engine.Engine, err error) {
	config := engine.Config{
		Open: func(ctx context.Context) (store.Store, error) {
			return s.Store.Open(ctx, open.Options{Logger: e.Logger()})
		},
		Embedded:         s.Store.Embedded(),
		System:           s.Store.System(),
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
