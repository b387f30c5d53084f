// Package source says where the data of an installation is: the keys in a store, and the
// verifications that instances share in Redis.
package source

import (
	"bytes"
	"context"
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

var errNoFile = errors.New("sqlite: the name of the file is empty (is a variable not set?)")

// Check checks the settings without resolving a placeholder. An empty
// name of a file does not mean the default.
func (s *Store) Check() error {
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

// Locate checks the settings, replaces the placeholders, and returns where the store is. By
// default that is a file in Caddy's data folder, and only that folder is created if it does
// not exist.
//
// It opens a PostgreSQL store without connecting to it, so that a DSN that pgx does not
// understand is an error of the configuration, and not a server to be waited for.
func (s *Store) Locate(repl *caddy.Replacer) (open.Location, error) {
	err := s.Check()
	location := open.Location{Driver: s.Driver}
	switch {
	case err != nil:
		return open.Location{}, err
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

// UnmarshalCaddyfile reads one of:
//
//	store sqlite [<file>]
//	store postgres <dsn> [{
//		schema <name>
//	}]
func (s *Store) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	s.Driver = d.Val()
	args := d.RemainingArgs()
	switch {
	case s.Driver == open.SQLite && len(args) == 0:
		if hasVariable(d.File(), d.Line()) {
			return d.WrapErr(errNoFile)
		}
	case s.Driver == open.SQLite && len(args) == 1:
		s.File = &args[0] // not empty: see [option.Block.Read]
	case s.Driver == open.Postgres && len(args) == 1:
		s.DSN = args[0]
	case s.Driver == open.Postgres && len(args) > 1: // it may be a password, so the error does not show it
		return d.Err("postgres: the dsn is one argument: write it in quotes if it has blanks")
	case s.Driver == open.SQLite, s.Driver == open.Postgres:
		return d.ArgErr()
	}
	if err := s.Check(); err != nil {
		return d.WrapErr(err)
	}
	if s.Driver == open.Postgres {
		return option.Block{"schema": option.Checked(option.Text(&s.Schema), s.Check)}.Read(d, "unrecognized option %q")
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

// WarnOfPassword logs that everybody who may read the configuration may read the password.
func (s *Store) WarnOfPassword(logger *slog.Logger) {
	if written.MatchString(s.DSN) {
		logger.Warn("store: the dsn has a password, which Caddy's admin endpoint shows under /config/: " +
			"keep the dsn in a file or a variable, as {file./run/secrets/dsn} or {env.DATABASE_URL}")
	}
}
