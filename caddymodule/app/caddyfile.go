package app

import (
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/option"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/source"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("system_keys", parseApp)
}

// parseApp reads the global option. Caddy calls it with the first app if there are two.
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
//		store postgres <dsn> [{
//			schema <name>
//		}]
//		redis [<url>...] {
//			ca <file>
//			cert <file> <key>
//			timeout <duration>
//		}
//		argon2id <memory> <iterations> <parallelism>
//		hash_memory <size>
//		key_memory <entries> [<size>]
//		lease <duration>
//		on_lapse cut|keep
//		secret <value>...
//		adopt_keys on|off
//		last_used_interval <duration>
//		audit_requests all|writes|none
//		audit_retention <duration>
//		expired_retention <duration>
//	}
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	err := option.Block{
		"store":              a.unmarshalStore,
		"redis":              a.unmarshalRedis,
		"argon2id":           a.unmarshalArgon2id,
		"hash_memory":        option.Arg(&a.HashMemory, option.Size),
		"key_memory":         a.unmarshalKeyMemory,
		"lease":              option.Checked(option.Duration(&a.Lease), a.checkLease),
		"on_lapse":           option.Checked(option.Text(&a.OnLapse), a.checkOnLapse),
		"secret":             option.List(&a.Secret),
		"adopt_keys":         option.OnOff("adopt_keys", &a.AdoptKeys),
		"last_used_interval": option.Checked(option.Duration(&a.LastUsedInterval), a.checkLastUsedInterval),
		"audit_requests":     option.Checked(option.Text(&a.AuditRequests), a.checkAuditRequests),
		"audit_retention":    option.Checked(option.Duration(&a.AuditRetention), a.checkAuditRetention),
		"expired_retention":  option.Checked(option.Duration(&a.ExpiredRetention), a.checkExpiredRetention),
	}.ReadDirective(d, "unrecognized option %q")
	if err != nil {
		return err
	}
	if err := a.checkSecret(); err != nil {
		return d.WrapErr(err)
	}
	whole := App{Argon2id: a.Argon2id, HashMemory: a.HashMemory}
	whole.setDefaults()
	return option.AtLine(d, whole.checkHashMemory())
}

func (a *App) unmarshalStore(d *caddyfile.Dispenser) error {
	a.Store = new(source.Store)
	return a.Store.UnmarshalCaddyfile(d)
}

func (a *App) unmarshalRedis(d *caddyfile.Dispenser) error {
	r := new(source.Redis)
	if err := r.UnmarshalCaddyfile(d); err != nil || r.None() {
		return err
	}
	a.Redis = r
	return nil
}

func (a *App) unmarshalArgon2id(d *caddyfile.Dispenser) error {
	var memory, iterations, parallelism string
	if !d.AllArgs(&memory, &iterations, &parallelism) {
		return d.ArgErr()
	}
	a.Argon2id = new(Argon2id)
	var err error
	if a.Argon2id.Memory, err = option.Size(memory); err != nil {
		return d.WrapErr(err)
	}
	if a.Argon2id.Iterations, err = strconv.Atoi(iterations); err != nil {
		return d.Errf("iterations must be a number, not %q", iterations)
	}
	if a.Argon2id.Parallelism, err = strconv.Atoi(parallelism); err != nil {
		return d.Errf("parallelism must be a number, not %q", parallelism)
	}
	_, err = a.Argon2id.Params()
	return option.AtLine(d, err)
}

func (a *App) unmarshalKeyMemory(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 {
		return d.ArgErr()
	}
	entries, err := strconv.Atoi(args[0])
	if err != nil || entries < 1 {
		return d.Errf("key_memory: entries must be a number from 1, not %q", args[0])
	}
	a.KeyMemory = &KeyMemory{Entries: entries}
	if len(args) == 2 {
		a.KeyMemory.Size, err = option.Size(args[1])
	}
	return option.AtLine(d, err)
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*App)(nil)
