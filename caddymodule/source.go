package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

func init() {
	caddy.RegisterModule(new(SQLite))
	caddy.RegisterModule(new(Postgres))
}

// Source is a module in the namespace system_keys.stores: it says where keys
// are kept.
type Source interface {
	// Locate replaces the placeholders. It opens nothing.
	Locate(repl *caddy.Replacer) (Location, error)
}

// Location is a store that can be opened. Only what names it is part of the
// digest by which engines are shared.
type Location struct {
	Driver string
	// Name is the file or the DSN; the latter may hold a password.
	Name string
	// Embedded says that the database is part of this process, so that it is
	// there or never will be.
	Embedded bool
	// Open opens the store without migrating it. What it does to the files of the
	// store is logged.
	Open func(ctx context.Context, logger *slog.Logger) (store.Store, error) `json:"-"`
}

// SQLite keeps the keys in one file, for a single server. Other processes on
// the same machine, such as the command line, may use the file at the same time.
type SQLite struct {
	// The file, made with mode 0600 if it is not there. Default:
	// `system-keys.db` in Caddy's data folder. An empty name is an error.
	File *string `json:"file,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*SQLite) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "system_keys.stores.sqlite",
		New: func() caddy.Module { return new(SQLite) },
	}
}

// Locate implements [Source].
func (s *SQLite) Locate(repl *caddy.Replacer) (Location, error) {
	if s.File == nil {
		return defaultSQLite(), nil
	}
	file, err := resolveOne(repl, *s.File)
	if err != nil {
		return Location{}, fmt.Errorf("sqlite file: %w", err)
	}
	return sqliteAt(file, sqlite.Options{}), nil
}

// defaultSQLite is the file in Caddy's data folder, which is made if need be.
func defaultSQLite() Location {
	folder := caddy.AppDataDir()
	location := sqliteAt(filepath.Join(folder, "system-keys.db"), sqlite.Options{})
	open := location.Open
	location.Open = func(ctx context.Context, logger *slog.Logger) (store.Store, error) {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, err
		}
		return open(ctx, logger)
	}
	return location
}

func sqliteAt(file string, options sqlite.Options) Location {
	return Location{
		Driver:   "sqlite",
		Name:     file,
		Embedded: true,
		Open: func(ctx context.Context, logger *slog.Logger) (store.Store, error) {
			with := options
			with.Logger = logger
			return sqlite.Open(ctx, file, with)
		},
	}
}

// UnmarshalCaddyfile sets the store from what follows `store`:
//
//	sqlite [<file>]
func (s *SQLite) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the driver's name
	if d.NextArg() {
		file := d.Val()
		s.File = &file
		if err := s.Validate(); err != nil {
			return d.WrapErr(err)
		}
	} else if hasVariable(d.File(), d.Line()) {
		return d.WrapErr(errNoFile)
	}
	return noMore(d)
}

var errNoFile = errors.New("sqlite: the name of the file is empty (is a variable not set?)")

// Validate refuses an empty name, which does not mean the default.
func (s *SQLite) Validate() error {
	if s.File != nil && strings.TrimSpace(*s.File) == "" {
		return errNoFile
	}
	return nil
}

// hasVariable reports whether a line of a Caddyfile, as it was written, has a
// variable. Caddy has replaced it: what a variable that is not set leaves looks
// like a line without it. A Caddyfile that is not in a file cannot be looked at.
func hasVariable(file string, line int) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	lines := bytes.SplitN(text, []byte("\n"), line+1)
	return line > 0 && line <= len(lines) && bytes.Contains(lines[line-1], []byte("{$"))
}

// Postgres keeps the keys in a PostgreSQL database that any number of servers
// share. Configuring it does not need the database to be there: until it is,
// requests with a key get 503. But a database that answers and refuses (the
// password, the database, rights, a schema that is not ours) fails the load.
type Postgres struct {
	// The connection string, as a URL (`postgres://…`) or in the keyword form.
	// Options of the connection pool are part of it, such as `pool_max_conns`.
	DSN string `json:"dsn,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Postgres) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "system_keys.stores.postgres",
		New: func() caddy.Module { return new(Postgres) },
	}
}

// Validate checks a DSN that holds no placeholder.
func (p *Postgres) Validate() error {
	if p.DSN == "" {
		return errors.New("postgres: a dsn is needed")
	}
	if strings.Contains(p.DSN, "{") {
		return nil
	}
	if err := postgres.CheckDSN(p.DSN); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// Locate implements [Source].
func (p *Postgres) Locate(repl *caddy.Replacer) (Location, error) {
	dsn, err := resolveOne(repl, p.DSN)
	if err != nil {
		return Location{}, fmt.Errorf("postgres dsn: %w", err)
	}
	// Nothing is connected to. What pgx does not understand is an error of the
	// configuration, and not a server to be waited for.
	s, err := postgres.Open(context.Background(), dsn)
	if err != nil {
		return Location{}, err
	}
	return postgresAt(dsn), s.Close()
}

func postgresAt(dsn string) Location {
	return Location{
		Driver: "postgres",
		Name:   dsn,
		Open: func(ctx context.Context, _ *slog.Logger) (store.Store, error) {
			return postgres.Open(ctx, dsn)
		},
	}
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
	if d.NextArg() { // which may be a password
		return d.Err("postgres: the dsn is one argument: write it in quotes if it has blanks")
	}
	if err := p.Validate(); err != nil {
		return d.WrapErr(err)
	}
	return noMore(d)
}

// noMore refuses further arguments, and a block, which would be passed over.
func noMore(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		return d.Errf("unrecognized option %q", d.Val())
	}
	return nil
}

// Interface guards.
var (
	_ Source                = (*SQLite)(nil)
	_ Source                = (*Postgres)(nil)
	_ caddyfile.Unmarshaler = (*SQLite)(nil)
	_ caddyfile.Unmarshaler = (*Postgres)(nil)
	_ caddy.Validator       = (*SQLite)(nil)
	_ caddy.Validator       = (*Postgres)(nil)
)
