// Package sqlstore is the part of an SQL store that is the same in every dialect. It
// applies migrations in order, moves a store into another one, decides which audit
// records are pruned, and reads and makes rows. The SQL itself is in the drivers.
package sqlstore

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Migrations are the files NNNN_name.sql of a driver, numbered from 1 without gaps. Files
// of the same number are one migration, in the order of their names. A released file is
// never edited: another file changes the schema. Every migration runs in a transaction of
// its own.
type Migrations []Migration

// Migration has the name of its first file. Version is the version of the schema after the
// migration has run. The script has all files of its number.
type Migration struct {
	Version      int
	Name, Script string
}

// LoadMigrations reads the folder "migrations" from the files embedded in a driver. It panics if
// there is no migration. The names sort as text, so the numbers have four digits.
func LoadMigrations(files fs.FS) Migrations {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil || len(names) == 0 {
		panic(fmt.Sprintf("no migrations are built in: %v", err))
	}
	var all Migrations
	for _, name := range names {
		script, err := fs.ReadFile(files, name)
		if err != nil {
			panic(err)
		}
		name = name[len("migrations/"):]
		if last := len(all) - 1; last >= 0 && all[last].Name[:4] == name[:4] {
			all[last].Script += string(script)
			continue
		}
		all = append(all, Migration{Version: len(all) + 1, Name: name, Script: string(script)})
	}
	return all
}

// Run brings a schema up to date. Version reads the version of the schema, which is 0 if
// there is no schema. Apply applies a migration, unless another instance has done that
// since the version was read. Schema is the name for the error that the schema is too new.
//
// After each call of apply it reads the version again, and goes on until it is the newest. An error
// of either ends it. A schema that is too new is a [*store.RefusedError].
func (m Migrations) Run(schema string, version func() (int, error), apply func(next Migration) error) error {
	for {
		current, err := version()
		switch {
		case err != nil:
			return err
		case current == len(m):
			return nil
		case current > len(m):
			return &store.RefusedError{Err: fmt.Errorf("migrate: %s has version %d, and this program knows %d at most: "+
				"it was upgraded by a newer one", schema, current, len(m))}
		}
		if err := apply(m[current]); err != nil {
			return err
		}
	}
}

// Newest returns an error unless the version is the newest one. It is for an export, which knows
// the columns of one version alone.
func (m Migrations) Newest(version int) error {
	if version != len(m) {
		return fmt.Errorf("the schema has version %d, not %d: bring it up to date first", version, len(m))
	}
	return nil
}

// triggerStatements are the statements of a script that make or drop a trigger.
var triggerStatements = regexp.MustCompile(`(?m)^(CREATE|DROP)(?: CONSTRAINT)? TRIGGER (\w+)`)

// Triggers returns the names of the triggers that a schema has after all migrations. A later
// migration may make a trigger again under the same name.
func (m Migrations) Triggers() (names []string) {
	for _, migration := range m {
		for _, found := range triggerStatements.FindAllStringSubmatch(migration.Script, -1) {
			if found[1] == "CREATE" {
				names = append(names, found[2])
			} else {
				names = slices.DeleteFunc(names, func(name string) bool { return name == found[2] })
			}
		}
	}
	return names
}

// NewMintKey makes a random mint key. The driver stores it along with the first migration, whose
// file cannot hold a secret.
func NewMintKey() (key store.MintKey) {
	_, _ = rand.Read(key[:]) // never fails
	return key
}

// ScanMintKey reads the mint key from its row. Without a row, and with a key that is too short,
// there is an error: keys could not be recognized.
func ScanMintKey(row Row) (key store.MintKey, err error) {
	var column []byte
	err = row.Scan(&column)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		err = errors.New("there is none")
	case err == nil && len(column) != len(key):
		err = errors.New("it has the wrong length")
	}
	copy(key[:], column)
	return key, err
}
