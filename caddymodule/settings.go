package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/store/open"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

// Defaults and bounds of the app's settings.
const (
	defaultHashMemory       = 256 << 20
	defaultLease            = 30 * time.Second
	minLease                = 500 * time.Millisecond
	maxLease                = 2 * time.Minute
	defaultLastUsedInterval = 10 * time.Second
	minLastUsedInterval     = 100 * time.Millisecond
	defaultAuditRetention   = 90 * 24 * time.Hour
	minAuditRetention       = time.Hour

	lapseCut  = "cut"
	lapseKeep = "keep"
)

// The values of `audit_requests`.
const (
	auditAll    = "all"
	auditWrites = "writes"
	auditNone   = "none"
)

func (a *App) setDefaults() {
	if a.StoreRaw == nil {
		a.StoreRaw = json.RawMessage(`{"driver":"sqlite"}`)
	}
	if a.Argon2id == nil {
		p := phc.Default()
		a.Argon2id = &Argon2id{
			Memory:      int64(p.Memory) << 10,
			Iterations:  int(p.Iterations),
			Parallelism: int(p.Parallelism),
		}
	}
	if a.HashMemory == 0 {
		a.HashMemory = defaultHashMemory
	}
	if a.Lease == 0 {
		a.Lease = caddy.Duration(defaultLease)
	}
	if a.OnLapse == "" {
		a.OnLapse = lapseCut
	}
	if a.LastUsedInterval == 0 {
		a.LastUsedInterval = caddy.Duration(defaultLastUsedInterval)
	}
	if a.AuditRequests == "" {
		a.AuditRequests = auditWrites
	}
	if a.AuditRetention == 0 {
		a.AuditRetention = caddy.Duration(defaultAuditRetention)
	}
}

// Validate checks the settings as far as that can be done without resolving a
// placeholder, and reports everything that is wrong at once.
func (a *App) Validate() error {
	_, argon2idErr := a.Argon2id.Params()
	return errors.Join(
		argon2idErr,
		a.checkHashMemory(),
		checkLease(time.Duration(a.Lease)),
		checkOnLapse(a.OnLapse),
		checkInterval(time.Duration(a.LastUsedInterval)),
		checkAuditRequests(a.AuditRequests),
		checkRetention(time.Duration(a.AuditRetention)),
		a.checkRedis(),
		a.checkAdoptKeys(),
	)
}

// Params are the cost as the hash takes it.
func (c *Argon2id) Params() (phc.Params, error) {
	if c.Memory%1024 != 0 {
		return phc.Params{}, fmt.Errorf("argon2id: memory must be a multiple of 1 KiB, not %d bytes", c.Memory)
	}
	const limit int64 = 1 << 31
	if c.Memory < 0 || c.Memory >= limit<<10 || c.Iterations < 0 || int64(c.Iterations) >= limit ||
		c.Parallelism < 0 || c.Parallelism > 255 {
		return phc.Params{}, errors.New("argon2id: a parameter is far out of bounds")
	}
	p := phc.Params{
		Memory:      uint32(c.Memory >> 10),
		Iterations:  uint32(c.Iterations),
		Parallelism: uint8(c.Parallelism),
	}
	if err := p.Validate(); err != nil {
		return phc.Params{}, fmt.Errorf("argon2id: %w", err)
	}
	return p, nil
}

func (a *App) checkHashMemory() error {
	if a.HashMemory < a.Argon2id.Memory {
		return fmt.Errorf("hash_memory: %d bytes is less than one argon2id hash takes (%d)",
			a.HashMemory, a.Argon2id.Memory)
	}
	return nil
}

func checkLease(d time.Duration) error {
	if d < minLease || d > maxLease {
		return fmt.Errorf("lease: must be from %s to %s, not %s", minLease, maxLease, d)
	}
	return nil
}

func checkOnLapse(s string) error {
	if s != lapseCut && s != lapseKeep {
		return fmt.Errorf("on_lapse: must be %s or %s, not %q", lapseCut, lapseKeep, s)
	}
	return nil
}

func checkInterval(d time.Duration) error {
	if d < minLastUsedInterval {
		return fmt.Errorf("last_used_interval: must be at least %s, not %s", minLastUsedInterval, d)
	}
	return nil
}

func checkAuditRequests(s string) error {
	if s != auditAll && s != auditWrites && s != auditNone {
		return fmt.Errorf("audit_requests: must be %s, %s or %s, not %q", auditAll, auditWrites, auditNone, s)
	}
	return nil
}

func checkRetention(d time.Duration) error {
	if d < minAuditRetention {
		return fmt.Errorf("audit_retention: must be at least %s, not %s", minAuditRetention, d)
	}
	return nil
}

// checkRedis checks the URLs that hold no placeholder, and that there is a
// secret to authenticate what is kept there.
func (a *App) checkRedis() error {
	if unset(a.Redis) {
		return nil
	}
	if len(a.Secret) == 0 {
		return errRedisWithoutSecret
	}
	if strings.Contains(strings.Join(a.Redis, ""), "{") {
		return nil
	}
	cache, err := redis.New(a.Redis, redis.Options{})
	if err != nil {
		return err // begins with "redis"
	}
	return cache.Close()
}

// unset reports whether no value holds anything, as when the variables are not set
// that they are taken from.
func unset(values []string) bool {
	return strings.TrimSpace(strings.Join(values, "")) == ""
}

// checkAdoptKeys: what is entered of a key of another service must not be a plain
// digest, from which a weak one could be guessed.
func (a *App) checkAdoptKeys() error {
	if a.AdoptKeys && len(a.Secret) == 0 {
		return errors.New("adopt_keys: needs a secret, under which adopted keys are entered in the store")
	}
	return nil
}

var errRedisWithoutSecret = errors.New("redis: needs a secret, to authenticate what is kept there")

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
