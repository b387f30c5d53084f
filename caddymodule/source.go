package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/lumio-vision/caddy-system-keys/store/open"
)

func init() {
	caddy.RegisterModule(new(SQLite))
	caddy.RegisterModule(new(Postgres))
}

// storesNamespace has the modules that say where keys are kept.
const storesNamespace = "system_keys.stores."

// source is a module in the namespace system_keys.stores. There is one for each driver in
// package open.
type source interface {
	// locate replaces the placeholders and returns where the store is. It opens nothing.
	locate(repl *caddy.Replacer) (open.Location, error)
}

// ReadApp reads the settings of an app for a program that does not run the app, such as
// the command line. It is as strict as Caddy: a mistyped setting must not lead to another
// store.
func ReadApp(raw json.RawMessage) (*App, error) {
	app := new(App)
	if err := caddy.StrictUnmarshalJSON(raw, app); err != nil {
		return nil, err
	}
	app.setDefaults()
	return app, nil
}

// Locate finds the store of an app from [ReadApp]. It opens nothing, and resolves only the
// placeholders of the store. Call it once: Caddy clears the setting when it loads the module.
func (a *App) Locate() (open.Location, error) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	module, err := ctx.LoadModule(a, "StoreRaw")
	if err != nil {
		return open.Location{}, fmt.Errorf("store: %w", err)
	}
	return module.(source).locate(caddy.NewReplacer())
}

// Secrets resolves the secrets of an app from [ReadApp].
func (a *App) Secrets() ([][]byte, error) { return resolveSecrets(caddy.NewReplacer(), a.Secret) }

// SQLite keeps the keys in one file, for a single server. Other processes on
// the same machine, such as the command line, may use the file at the same time.
type SQLite struct {
	// The file. It is created with mode 0600 if it does not exist. Default:
	// `system-keys.db` in Caddy's data folder. An empty name is an error.
	File *string `json:"file,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*SQLite) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  storesNamespace + open.SQLite,
		New: func() caddy.Module { return new(SQLite) },
	}
}

// locate implements [source]. The default is a file in Caddy's data folder, and only that
// folder is created if it does not exist.
func (s *SQLite) locate(repl *caddy.Replacer) (open.Location, error) {
	if s.File == nil {
		file := filepath.Join(caddy.AppDataDir(), "system-keys.db")
		return open.Location{Driver: open.SQLite, Name: file, MakeFolder: true}, nil
	}
	file, err := Resolve(repl, *s.File)
	if err != nil {
		return open.Location{}, fmt.Errorf("sqlite file: %w", err)
	}
	return open.Location{Driver: open.SQLite, Name: file}, nil
}

// UnmarshalCaddyfile sets the store from what follows `store`:
//
//	sqlite [<file>]
func (s *SQLite) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the driver's name
	switch args := d.RemainingArgs(); len(args) {
	case 0:
		if hasVariable(d.File(), d.Line()) {
			return d.WrapErr(errNoFile)
		}
	case 1:
		s.File = &args[0] // not empty: see [options.readBlock]
	default:
		return d.ArgErr()
	}
	return refuseBlock(d)
}

var errNoFile = errors.New("sqlite: the name of the file is empty (is a variable not set?)")

// Validate refuses an empty name, which does not mean the default.
func (s *SQLite) Validate() error {
	if s.File != nil && isBlank(*s.File) {
		return errNoFile
	}
	return nil
}

// hasVariable reports whether a line of a Caddyfile has a variable (`{$NAME}`) in it.
// Caddy has replaced the variables by now: with a variable that is not set, the tokens are
// the same as without one. If the Caddyfile did not come from a file, the answer is no.
func hasVariable(file string, line int) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	lines := bytes.SplitN(text, []byte("\n"), line+1)
	return line > 0 && line <= len(lines) && bytes.Contains(lines[line-1], []byte("{$"))
}

// Postgres keeps the keys in a PostgreSQL database that any number of servers share. A
// database that cannot be reached does not fail the load: until it can be reached,
// requests with a key get 503. A database that refuses the connection (wrong password,
// database or rights, a schema that is not ours) fails the load.
type Postgres struct {
	// The connection string, as a URL (`postgres://…`) or in the keyword form.
	// Options of the connection pool are part of it, such as `pool_max_conns`.
	DSN string `json:"dsn,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Postgres) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  storesNamespace + open.Postgres,
		New: func() caddy.Module { return new(Postgres) },
	}
}

// Validate checks a DSN if it has no placeholder.
func (p *Postgres) Validate() error {
	if p.DSN == "" {
		return errors.New("postgres: a dsn is needed")
	}
	if strings.Contains(p.DSN, "{") {
		return nil
	}
	if err := (open.Location{Driver: open.Postgres, Name: p.DSN}).Check(); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// locate implements [source]. It opens the store without connecting to it, so that a DSN
// that pgx does not understand is an error of the configuration, and not a server to be
// waited for.
func (p *Postgres) locate(repl *caddy.Replacer) (open.Location, error) {
	dsn, err := Resolve(repl, p.DSN)
	if err != nil {
		return open.Location{}, fmt.Errorf("postgres dsn: %w", err)
	}
	location := open.Location{Driver: open.Postgres, Name: dsn}
	s, err := location.Open(context.Background(), open.Options{})
	if err != nil {
		return open.Location{}, err
	}
	return location, s.Close()
}

// UnmarshalCaddyfile sets the store from what follows `store`:
//
//	postgres <dsn>
func (p *Postgres) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the driver's name
	if !d.NextArg() {
		return d.ArgErr()
	}
	p.DSN = d.Val()
	if d.NextArg() { // it may be a password, so the error does not show it
		return d.Err("postgres: the dsn is one argument: write it in quotes if it has blanks")
	}
	if err := p.Validate(); err != nil {
		return d.WrapErr(err)
	}
	return refuseBlock(d)
}

// Interface guards.
var (
	_ source                = (*SQLite)(nil)
	_ source                = (*Postgres)(nil)
	_ caddyfile.Unmarshaler = (*SQLite)(nil)
	_ caddyfile.Unmarshaler = (*Postgres)(nil)
	_ caddy.Validator       = (*SQLite)(nil)
	_ caddy.Validator       = (*Postgres)(nil)
)
