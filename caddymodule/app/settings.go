package app

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/option"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/resolve"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/source"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store/open"
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
	defaultExpiredRetention = 30 * 24 * time.Hour
	minExpiredRetention     = time.Second

	// minHashMemory is the least memory of a hash that OWASP recommends:
	// https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html#argon2id
	minHashMemory = 7 << 20
)

// The values of `on_lapse`.
const (
	lapseCut  = "cut"
	lapseKeep = "keep"
)

// The values of `audit_requests`.
const (
	auditAll    = "all"
	auditWrites = "writes"
	auditNone   = "none"
)

// setDefaults fills in the settings that are not set. An explicit 0 in the JSON counts as not
// set.
func (a *App) setDefaults() {
	if a.Store == nil {
		a.Store = &source.Store{Driver: open.SQLite}
	}
	if a.Argon2id == nil {
		p := phc.Default()
		a.Argon2id = &Argon2id{
			Memory:      int64(p.Memory) << 10,
			Iterations:  int(p.Iterations),
			Parallelism: int(p.Parallelism),
		}
	}
	a.HashMemory = cmp.Or(a.HashMemory, defaultHashMemory)
	if a.KeyMemory == nil {
		a.KeyMemory = new(KeyMemory)
	}
	a.KeyMemory.Entries = cmp.Or(a.KeyMemory.Entries, verify.DefaultMaxEntries)
	a.KeyMemory.Size = cmp.Or(a.KeyMemory.Size, verify.DefaultMaxBytes)
	a.Lease = cmp.Or(a.Lease, caddy.Duration(defaultLease))
	a.OnLapse = cmp.Or(a.OnLapse, lapseCut)
	a.LastUsedInterval = cmp.Or(a.LastUsedInterval, caddy.Duration(defaultLastUsedInterval))
	a.AuditRequests = cmp.Or(a.AuditRequests, auditWrites)
	a.AuditRetention = cmp.Or(a.AuditRetention, caddy.Duration(defaultAuditRetention))
	a.ExpiredRetention = cmp.Or(a.ExpiredRetention, caddy.Duration(defaultExpiredRetention))
}

// Validate checks the settings without resolving a placeholder, and reports all mistakes
// at once.
func (a *App) Validate() error {
	_, argon2idErr := a.Argon2id.Params()
	return errors.Join(
		a.Store.Check(),
		argon2idErr,
		a.checkHashMemory(),
		a.KeyMemory.check(),
		a.checkLease(),
		a.checkOnLapse(),
		a.checkLastUsedInterval(),
		a.checkAuditRequests(),
		a.checkAuditRetention(),
		a.checkExpiredRetention(),
		a.checkSecret(),
		a.Redis.Check(),
	)
}

// Params returns the cost in the form that the hash function takes.
func (c *Argon2id) Params() (phc.Params, error) {
	if c.Memory < minHashMemory {
		// A PHC string and many programs have the number in KiB.
		return phc.Params{}, fmt.Errorf("argon2id: memory must be at least 7 MiB, not %d bytes", c.Memory)
	}
	if c.Memory%1024 != 0 {
		return phc.Params{}, fmt.Errorf("argon2id: memory must be a multiple of 1 KiB, not %d bytes", c.Memory)
	}
	const limit int64 = 1 << 31
	if c.Memory >= limit<<10 || c.Iterations < 0 || int64(c.Iterations) >= limit ||
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

func (m *KeyMemory) check() error {
	if m.Entries < 1 || m.Size < 1 {
		return errors.New("key_memory: entries and size must be at least 1")
	}
	return nil
}

func (a *App) checkLease() error {
	return option.CheckDuration("lease", a.Lease, minLease, maxLease)
}

func (a *App) checkOnLapse() error {
	return option.CheckWord("on_lapse", a.OnLapse, lapseCut, lapseKeep)
}

func (a *App) checkLastUsedInterval() error {
	return option.CheckDuration("last_used_interval", a.LastUsedInterval, minLastUsedInterval, 0)
}

func (a *App) checkAuditRequests() error {
	return option.CheckWord("audit_requests", a.AuditRequests, auditAll, auditWrites, auditNone)
}

func (a *App) checkAuditRetention() error {
	return option.CheckDuration("audit_retention", a.AuditRetention, minAuditRetention, 0)
}

func (a *App) checkExpiredRetention() error {
	return option.CheckDuration("expired_retention", a.ExpiredRetention, minExpiredRetention, 0)
}

// checkSecret checks that there is a secret if a setting needs one. Redis holds data that
// anybody with access to it could forge. The store holds a digest of each adopted key,
// and a weak key could be guessed from a digest without a secret.
func (a *App) checkSecret() error {
	switch {
	case len(a.Secret) > 0:
		return nil
	case !a.Redis.None():
		return errors.New("redis: needs a secret, to authenticate what is kept there")
	case a.AdoptKeys:
		return errors.New("adopt_keys: needs a secret, under which adopted keys are entered in the store")
	}
	return nil
}

// Read reads the settings of an app for a program that does not run the app, such as
// the command line. It is as strict as Caddy: a mistyped setting must not lead to another
// store.
func Read(raw json.RawMessage) (*App, error) {
	app := new(App)
	if err := caddy.StrictUnmarshalJSON(raw, app); err != nil {
		return nil, err
	}
	app.setDefaults()
	return app, nil
}

// settings are those of the app, with every placeholder replaced, as far as they concern
// the engine.
type settings struct {
	engine.Settings
	Store open.Location
	Redis *source.ResolvedRedis // nil for none
}

// resolve replaces the placeholders. An unknown or empty one is an error: anybody could
// forge what an empty secret authenticates.
func (a *App) resolve(repl *caddy.Replacer) (*settings, error) {
	params, err := a.Argon2id.Params()
	if err != nil {
		return nil, err
	}
	s := &settings{Settings: engine.Settings{
		Argon2id:         params,
		HashMemory:       a.HashMemory,
		KeyEntries:       a.KeyMemory.Entries,
		KeyMemory:        a.KeyMemory.Size,
		Lease:            time.Duration(a.Lease),
		KeepOnLapse:      a.OnLapse == lapseKeep,
		AdoptKeys:        a.AdoptKeys,
		LastUsedInterval: time.Duration(a.LastUsedInterval),
		AuditRetention:   time.Duration(a.AuditRetention),
		ExpiredRetention: time.Duration(a.ExpiredRetention),
	}}
	if s.Store, err = a.Store.Locate(repl); err != nil {
		return nil, err
	}
	if s.Redis, err = a.Redis.Resolve(repl, a.logger); err != nil {
		return nil, err
	}
	if s.Secrets, err = resolve.Secrets(repl, a.Secret); err != nil {
		return nil, err
	}
	for i, secret := range s.Secrets {
		if len(secret) < 16 {
			a.logger.Warn("secret is short: use 32 random bytes", slog.Int("number", i+1))
		}
	}
	return s, nil
}
