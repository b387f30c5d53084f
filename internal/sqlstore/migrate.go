// Package sqlstore is the part of a store in an SQL database that is the same in every
// dialect: the order in which migrations are applied, how a store is moved into
// another one, which audit records are pruned, and how rows are read and made. The
// drivers hold the SQL.
package sqlstore

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// Migrations are the files NNNN_name.sql of a driver, numbered from 1 without gaps. A
// file that was released is never edited; the schema changes by another file. Every
// file runs in a transaction of its own.
type Migrations []Migration

// Migration is one file. Version is that of the schema after it.
type Migration struct {
	Version      int
	Name, Script string
}

// LoadMigrations reads the folder "migrations" of the files that a driver is built with.
// It panics if the folder is not there.
func LoadMigrations(files fs.FS) Migrations {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil || len(names) == 0 {
		panic(fmt.Sprintf("no migrations are built in: %v", err))
	}
	all := make(Migrations, len(names))
	for i, name := range names {
		script, err := fs.ReadFile(files, name)
		if err != nil {
			panic(err)
		}
		all[i] = Migration{Version: i + 1, Name: name[len("migrations/"):], Script: string(script)}
	}
	return all
}

// Run brings a schema up to date. Version reads the version that the schema has, or 0
// if there is none. Apply applies a migration, unless another instance did so since
// the version was read. The name of the schema is for the error that it is too new.
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

// Newest refuses the version of any schema but the newest.
func (m Migrations) Newest(version int) error {
	if version != len(m) {
		return fmt.Errorf("the schema has version %d, not %d: bring it up to date first", version, len(m))
	}
	return nil
}

// NewMintKey makes the mint key, which no file can hold. The first migration enters it.
func NewMintKey() (key store.MintKey) {
	_, _ = rand.Read(key[:]) // never fails
	return key
}

// ScanMintKey reads the mint key from its row.
func ScanMintKey(row Row) (key store.MintKey, err error) {
	var column []byte
	err = row.Scan(&column)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		err = errors.New("there is none")
	case err == nil && copy(key[:], column) != len(key):
		err = errors.New("it has the wrong length")
	}
	return key, err
}
