package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// run is one run of the benchmarks: what it was told, and what its parts share.
type run struct {
	options
	folder  string
	servers *testenv.Servers // from the first time that they are needed

	part  string // the one that is measured now
	began time.Time
}

// sqlite is a new file.
func (r *run) sqlite() (*place, error) {
	folder, err := r.newFolder()
	return &place{"SQLite", "sqlite", filepath.Join(folder, "keys.db")}, err
}

// postgres is a new database.
func (r *run) postgres(ctx context.Context) (*place, error) {
	servers, err := r.databases()
	if err != nil {
		return nil, err
	}
	dsn, err := servers.Database(ctx)
	return &place{"PostgreSQL", "postgres", dsn}, err
}

// redis are the lines of the Caddyfile for it. All who ask share one.
func (r *run) redis() ([]string, error) {
	servers, err := r.databases()
	if err != nil {
		return nil, err
	}
	return []string{"redis " + servers.RedisURL(), "secret of-the-benchmarks-and-of-nobody-else"}, nil
}

// databases are PostgreSQL and Redis. A commit waits for the disk.
func (r *run) databases() (_ *testenv.Servers, err error) {
	if r.servers == nil {
		r.servers, err = testenv.StartServers(testenv.Durable(), testenv.Setting("shared_buffers", "128MB"))
	}
	return r.servers, err
}

// newFolder is a folder that is removed with all others.
func (r *run) newFolder() (string, error) { return os.MkdirTemp(r.folder, "") }

// close ends the databases, and removes all folders.
func (r *run) close() {
	if r.servers != nil {
		_ = r.servers.Close() // what it has started ends with this process, too
	}
	_ = os.RemoveAll(r.folder)
}

// progress tells whoever waits how far it is.
func (r *run) progress(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "%-9s %4.0f s  %s\n", r.part, time.Since(r.began).Seconds(), fmt.Sprintf(format, arguments...))
}

// places are a new file and a new database.
func (r *run) places(ctx context.Context) ([]*place, error) {
	file, err := r.sqlite()
	if err != nil {
		return nil, err
	}
	database, err := r.postgres(ctx)
	return []*place{file, database}, err
}
