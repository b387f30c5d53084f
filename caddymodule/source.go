package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/option"
	"github.com/lumio-vision/caddy-system-keys/caddymodule/resolve"
	"github.com/lumio-vision/caddy-system-keys/store/open"
	"github.com/lumio-vision/caddy-system-keys/store/redis"
)

// Store says where the keys are kept.
//
// `sqlite` keeps them in one file, for a single server. Other processes on the same
// machine, such as the command line, may use the file at the same time.
//
// `postgres` keeps them in a PostgreSQL database that any number of servers share. A
// database that cannot be reached does not fail the load: until it can be reached,
// requests with a key get 503. A database that refuses the connection (wrong password,
// database or rights, a schema that is not ours) fails the load.
type Store struct {
	// `sqlite` or `postgres`.
	Driver string `json:"driver,omitempty"`

	// The file of `sqlite`. It is created with mode 0600 if it does not exist. Default:
	// `system-keys.db` in Caddy's data folder. An empty name is an error.
	File *string `json:"file,omitempty"`

	// The connection string of `postgres`, as a URL (`postgres://…`) or in the keyword
	// form. Options of the connection pool are part of it, such as `pool_max_conns`.
	DSN string `json:"dsn,omitempty"`

	// The schema of `postgres` that holds the table `system_keys` and everything else of
	// the store, so that it can share a database with others. It is created if it does not
	// exist. Default: `system_keys` is in the schema that the connection led to when the
	// store was made, and everything else in the schema `sidecar`.
	Schema string `json:"schema,omitempty"`
}

// ReadApp reads the settings of an app for a program that does not run the app, such as
// the command line. It is as strict as Caddy: a mistyped setting must not lead to another
// store.
func ReadApp(raw json.RawMessage) (*App, error) {
	app := new(App)
	if err := caddy.StrictUnmarshalJSON(raw, app); err != nil {
		return nil, err
	}
	app.logger = slog.New(slog.DiscardHandler)
	app.setDefaults()
	return app, nil
}

// Locate finds the store of an app from [ReadApp]. It opens nothing, and resolves only the
// placeholders of the store.
func (a *App) Locate() (open.Location, error) {
	if err := a.checkStore(); err != nil {
		return open.Location{}, err
	}
	return a.locateStore(caddy.NewReplacer())
}

// Secrets resolves the secrets of an app from [ReadApp].
func (a *App) Secrets() ([][]byte, error) { return resolve.Secrets(caddy.NewReplacer(), a.Secret) }

var errNoFile = errors.New("sqlite: the name of the file is empty (is a variable not set?)")

// checkStore checks the settings of the store without resolving a placeholder. An empty
// name of a file does not mean the default.
func (a *App) checkStore() error {
	s := a.Store
	switch {
	case s.Driver == open.SQLite && (s.DSN != "" || s.Schema != ""):
		return errors.New("store: sqlite has a file, and no dsn and no schema")
	case s.Driver == open.SQLite && s.File != nil && option.IsBlank(*s.File):
		return errNoFile
	case s.Driver == open.SQLite:
		return nil
	case s.Driver != open.Postgres:
		return fmt.Errorf("store: there is no driver %q; there are sqlite and postgres", s.Driver)
	case s.File != nil:
		return errors.New("store: postgres has a dsn, and no file")
	case s.DSN == "":
		return errors.New("postgres: a dsn is needed")
	}
	location := open.Location{Driver: open.Postgres, Name: s.DSN, Schema: s.Schema}
	if strings.Contains(s.DSN, "{") {
		location.Name = "postgres://" // not known yet, and this is a valid one
	}
	if strings.Contains(s.Schema, "{") {
		location.Schema = "" // not known yet
	}
	if err := location.Check(); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// locateStore replaces the placeholders and returns where the store is. By default that is
// a file in Caddy's data folder, and only that folder is created if it does not exist.
//
// It opens a PostgreSQL store without connecting to it, so that a DSN that pgx does not
// understand is an error of the configuration, and not a server to be waited for.
func (a *App) locateStore(repl *caddy.Replacer) (open.Location, error) {
	s := a.Store
	location := open.Location{Driver: s.Driver}
	var err error
	switch {
	case s.Driver == open.Postgres:
		if location.Name, err = resolve.Text(repl, s.DSN); err != nil {
			return open.Location{}, fmt.Errorf("store: postgres dsn: %w", err)
		}
		location.Schema = s.Schema
		if err := resolve.Fields(repl, map[string]*string{"store: postgres schema": &location.Schema}); err != nil {
			return open.Location{}, err
		}
		opened, err := location.Open(context.Background(), open.Options{})
		if err != nil {
			return open.Location{}, fmt.Errorf("store: %w", err)
		}
		return location, opened.Close()
	case s.File == nil:
		location.Name, location.MakeFolder = filepath.Join(caddy.AppDataDir(), "system-keys.db"), true
	default:
		if location.Name, err = resolve.Text(repl, *s.File); err != nil {
			return open.Location{}, fmt.Errorf("store: sqlite file: %w", err)
		}
	}
	return location, nil
}

// unmarshalStore reads one of:
//
//	store sqlite [<file>]
//	store postgres <dsn> [{
//		schema <name>
//	}]
func (a *App) unmarshalStore(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	a.Store = &Store{Driver: d.Val()}
	args := d.RemainingArgs()
	switch {
	case a.Store.Driver == open.SQLite && len(args) == 0:
		if hasVariable(d.File(), d.Line()) {
			return d.WrapErr(errNoFile)
		}
	case a.Store.Driver == open.SQLite && len(args) == 1:
		a.Store.File = &args[0] // not empty: see [option.Block.Read]
	case a.Store.Driver == open.Postgres && len(args) == 1:
		a.Store.DSN = args[0]
	case a.Store.Driver == open.Postgres && len(args) > 1: // it may be a password, so the error does not show it
		return d.Err("postgres: the dsn is one argument: write it in quotes if it has blanks")
	case a.Store.Driver == open.SQLite, a.Store.Driver == open.Postgres:
		return d.ArgErr()
	}
	if err := a.checkStore(); err != nil {
		return d.WrapErr(err)
	}
	if a.Store.Driver == open.Postgres {
		return option.Block{"schema": option.Checked(option.Text(&a.Store.Schema), a.checkStore)}.Read(d, "unrecognized option %q")
	}
	return option.RefuseBlock(d)
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

// written matches a DSN with a password that is not a placeholder.
var written = regexp.MustCompile(`(?i)://[^/?@{]*:[^@{]+@|[?&\s]password\s*=\s*[^{\s]|^password\s*=\s*[^{\s]`)

// warnOfPassword logs that everybody who may read the configuration may read the password.
func (a *App) warnOfPassword() {
	if written.MatchString(a.Store.DSN) {
		a.logger.Warn("store: the dsn has a password, which Caddy's admin endpoint shows under /config/: " +
			"keep the dsn in a file or a variable, as {file./run/secrets/dsn} or {env.DATABASE_URL}")
	}
}

// OpenRedis makes the cache of an app from [ReadApp], without connecting to it. It is nil if
// there is none.
func (a *App) OpenRedis() (*redis.Cache, error) {
	s, err := a.resolveRedis(caddy.NewReplacer())
	if s == nil || err != nil {
		return nil, err
	}
	return s.newCache(a.logger)
}
