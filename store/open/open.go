// Package open opens a store by its driver and name, or by a URL. It has the only list of
// drivers. A new driver must be added here.
package open

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// The names of the drivers, as configurations have them.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// Location says where a store is. Nothing is opened before [Location.Open].
type Location struct {
	Driver string
	// Name is the file or the DSN. A DSN may hold a password.
	Name string
	// Schema has the tables of a PostgreSQL store, if it is not empty: see
	// [postgres.Options].
	Schema string
	// MakeFolder creates the folder of a file that may be created. It does not help to
	// identify the store, so it is left out of the JSON.
	MakeFolder bool `json:"-"`
}

// Options say how a store is opened.
type Options struct {
	// MustExist, SameOwner and ReadOnly are for a SQLite file: see [sqlite.Options].
	MustExist, SameOwner, ReadOnly bool
	// Logger logs what opening changes in the files of the store, and how far a long
	// migration is. Nil logs nothing.
	Logger *slog.Logger
}

// driver describes a driver.
type driver struct {
	// embedded says that the database is part of this process. If it cannot be opened at
	// once, waiting does not help.
	embedded bool
	// check returns mistakes in a location without opening anything.
	check func(l Location) error
	open  func(ctx context.Context, l Location, o Options) (store.Store, error)
}

var drivers = map[string]driver{
	SQLite:   {embedded: true, check: func(Location) error { return nil }, open: openSQLite},
	Postgres: {check: checkPostgres, open: openPostgres},
}

// DSN reads a URL that names the driver too: `sqlite:///absolute/file.db`, or
// `postgres://…`.
func DSN(dsn string) (Location, error) {
	if file, ok := strings.CutPrefix(dsn, "sqlite://"); ok {
		if !filepath.IsAbs(file) {
			return Location{}, errors.New("the file must be given with its absolute path, such as sqlite:///var/lib/keys.db")
		}
		if strings.Contains(file, "?") {
			return Location{}, errors.New("sqlite:// takes the path of a file and no options")
		}
		return Location{Driver: SQLite, Name: file}, nil
	}
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		l := Location{Driver: Postgres, Name: dsn}
		return l, l.Check()
	}
	return Location{}, errors.New("must begin with sqlite:// or postgres://")
}

// Check returns mistakes in the location without opening anything.
func (l Location) Check() error { return drivers[l.Driver].check(l) }

// Open opens the store without migrating it.
func (l Location) Open(ctx context.Context, o Options) (store.Store, error) {
	d, ok := drivers[l.Driver]
	if !ok {
		return nil, fmt.Errorf("unknown driver %q", l.Driver)
	}
	return d.open(ctx, l, o)
}

// String says where the store is, without a secret.
func (l Location) String() string {
	if l.Driver != Postgres {
		return l.Driver + " " + l.Name
	}
	where := l.Driver + " " + postgres.Server(l.Name)
	if l.Schema != "" {
		where += ", schema " + l.Schema
	}
	return where
}

// Embedded reports whether the database is part of this process.
func (l Location) Embedded() bool { return drivers[l.Driver].embedded }

func openSQLite(ctx context.Context, l Location, o Options) (store.Store, error) {
	if l.MakeFolder && !o.MustExist && !o.ReadOnly {
		if err := os.MkdirAll(filepath.Dir(l.Name), 0o700); err != nil {
			return nil, err
		}
	}
	return sqlite.Open(ctx, l.Name, sqlite.Options{MustExist: o.MustExist, SameOwner: o.SameOwner, ReadOnly: o.ReadOnly, Logger: o.Logger})
}

func checkPostgres(l Location) error {
	if l.Schema != "" {
		if err := postgres.CheckSchema(l.Schema); err != nil {
			return err
		}
	}
	return postgres.CheckDSN(l.Name)
}

func openPostgres(ctx context.Context, l Location, o Options) (store.Store, error) {
	return postgres.Open(ctx, l.Name, postgres.Options{Schema: l.Schema, Logger: o.Logger})
}
