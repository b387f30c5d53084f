package caddymodule

import (
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/dustin/go-humanize"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("system_keys", parseApp)
}

func parseApp(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		d.Next() // to the option's name, for its line
		return nil, d.Err("system_keys is already specified: one block holds the settings of all sites")
	}
	app := new(App)
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "system_keys", Value: caddyconfig.JSON(app, nil)}, nil
}

// UnmarshalCaddyfile sets up the app from a global option. Syntax:
//
//	system_keys {
//		store sqlite [<file>]
//		store postgres <dsn>
//		redis [<url>...]
//		argon2id <memory> <iterations> <parallelism>
//		hash_memory <size>
//		lease <duration>
//		on_lapse cut|keep
//		secret <value>...
//		adopt_keys on|off
//		last_used_interval <duration>
//		audit_requests all|writes|none
//		audit_retention <duration>
//	}
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	err := eachOption(d, func(name string) error { return a.unmarshalOption(d, name) })
	if err != nil {
		return err
	}
	if len(a.Redis) > 0 && len(a.Secret) == 0 {
		return d.WrapErr(errRedisWithoutSecret)
	}
	if err := a.checkAdoptKeys(); err != nil {
		return d.WrapErr(err)
	}
	whole := App{Argon2id: a.Argon2id, HashMemory: a.HashMemory}
	whole.setDefaults()
	return wrap(d, whole.checkHashMemory())
}

func (a *App) unmarshalOption(d *caddyfile.Dispenser, name string) error {
	switch name {
	case "store":
		return a.unmarshalStore(d)
	case "redis":
		if a.Redis = d.RemainingArgs(); unset(a.Redis) {
			a.Redis = nil // of a variable that is not set nothing is left, not even quotes
			return nil
		}
		check := App{Redis: a.Redis, Secret: []string{"any"}}
		return wrap(d, check.checkRedis())
	case "argon2id":
		return a.unmarshalArgon2id(d)
	case "hash_memory":
		size, err := unmarshalSize(d)
		if err != nil {
			return err
		}
		a.HashMemory = size
		return noArgs(d)
	case "lease":
		lease, err := unmarshalDuration(d)
		if err != nil {
			return err
		}
		a.Lease = caddy.Duration(lease)
		return wrap(d, checkLease(lease))
	case "on_lapse":
		if !d.AllArgs(&a.OnLapse) {
			return d.ArgErr()
		}
		return wrap(d, checkOnLapse(a.OnLapse))
	case "secret":
		if a.Secret = d.RemainingArgs(); len(a.Secret) == 0 {
			return d.ArgErr()
		}
		return nil
	case "adopt_keys":
		return a.unmarshalAdoptKeys(d)
	case "last_used_interval":
		interval, err := unmarshalDuration(d)
		if err != nil {
			return err
		}
		a.LastUsedInterval = caddy.Duration(interval)
		return wrap(d, checkInterval(interval))
	case "audit_requests":
		if !d.AllArgs(&a.AuditRequests) {
			return d.ArgErr()
		}
		return wrap(d, checkAuditRequests(a.AuditRequests))
	case "audit_retention":
		retention, err := unmarshalDuration(d)
		if err != nil {
			return err
		}
		a.AuditRetention = caddy.Duration(retention)
		return wrap(d, checkRetention(retention))
	default:
		return d.Errf("unrecognized option %q", name)
	}
}

func (a *App) unmarshalStore(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	driver := d.Val()
	if _, err := caddy.GetModule(storesNamespace + driver); err != nil {
		return d.Errf("store: there is no driver %q; there are sqlite and postgres", driver)
	}
	module, err := caddyfile.UnmarshalModule(d, storesNamespace+driver)
	if err != nil {
		return err
	}
	a.StoreRaw = caddyconfig.JSONModuleObject(module, "driver", driver, nil)
	return nil
}

func (a *App) unmarshalAdoptKeys(d *caddyfile.Dispenser) error {
	var text string
	if !d.AllArgs(&text) {
		return d.ArgErr()
	}
	if text != "on" && text != "off" {
		return d.Errf("adopt_keys: must be on or off, not %q", text)
	}
	a.AdoptKeys = text == "on"
	return nil
}

func (a *App) unmarshalArgon2id(d *caddyfile.Dispenser) error {
	memory, err := unmarshalSize(d)
	if err != nil {
		return err
	}
	var iterations, parallelism string
	if !d.AllArgs(&iterations, &parallelism) {
		return d.ArgErr()
	}
	cost := &Argon2id{Memory: memory}
	if cost.Iterations, err = strconv.Atoi(iterations); err != nil {
		return d.Errf("iterations must be a number, not %q", iterations)
	}
	if cost.Parallelism, err = strconv.Atoi(parallelism); err != nil {
		return d.Errf("parallelism must be a number, not %q", parallelism)
	}
	a.Argon2id = cost
	_, err = cost.Params()
	return wrap(d, err)
}

// unmarshalSize reads the next argument as a number of bytes, such as 19MiB.
func unmarshalSize(d *caddyfile.Dispenser) (int64, error) {
	if !d.NextArg() {
		return 0, d.ArgErr()
	}
	size, err := humanize.ParseBytes(d.Val())
	if err != nil || size == 0 || size > 1<<50 {
		return 0, d.Errf("not a size, such as 64MiB: %q", d.Val())
	}
	return int64(size), nil
}

// unmarshalDuration reads the only argument as a duration, such as 30s or 90d.
func unmarshalDuration(d *caddyfile.Dispenser) (time.Duration, error) {
	var text string
	if !d.AllArgs(&text) {
		return 0, d.ArgErr()
	}
	duration, err := caddy.ParseDuration(text)
	if err != nil {
		return 0, d.Errf("not a duration, such as 30s: %q", text)
	}
	return duration, nil
}

// eachOption reads a directive or global option that has no arguments, and calls
// read for the name of each option in its block.
func eachOption(d *caddyfile.Dispenser, read func(name string) error) error {
	d.Next() // consume the name
	if d.NextArg() {
		return d.ArgErr()
	}
	return inBlock(d, read)
}

// inBlock calls read for the name of each option in the block that follows. An
// option that is there twice is a mistake, and so is an empty value: the option's
// default may be laxer than what was meant. Only for redis it means none.
func inBlock(d *caddyfile.Dispenser, read func(name string) error) error {
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		if seen[name] {
			return d.Errf("%s is already specified", name)
		}
		seen[name] = true
		for ahead := *d; ahead.NextArg(); {
			if name != "redis" && unset([]string{ahead.Val()}) {
				return d.Errf("%s: a value is empty (is a variable not set?)", name)
			}
		}
		if err := read(name); err != nil {
			return err
		}
	}
	return nil
}

func noArgs(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	return nil
}

// wrap gives an error its file and line; nil stays nil.
func wrap(d *caddyfile.Dispenser, err error) error {
	if err == nil {
		return nil
	}
	return d.WrapErr(err)
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*App)(nil)
