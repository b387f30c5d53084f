package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// part is a part of the table.
type part struct {
	name    string
	measure func(ctx context.Context, r *run) ([]row, error)
}

var parts = []part{
	{"requests", requests},
	{"revoke", revoke},
}

// choose finds parts by their names; no names are all parts.
func choose(names []string) ([]part, error) {
	if len(names) == 0 {
		return parts, nil
	}
	var chosen []part
	for _, name := range names {
		i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no part %q", name)
		}
		chosen = append(chosen, parts[i])
	}
	return chosen, nil
}

// tabulate measures the parts one after another, prints the table and saves it. What
// was measured before a part failed is printed and saved too.
func tabulate(ctx context.Context, o options, chosen []part, file string) error {
	folder, err := os.MkdirTemp("", "caddy-system-keys-bench-")
	if err != nil {
		return err
	}
	r := &run{options: o, folder: folder}
	defer r.close()
	found := &report{Machine: thisMachine(ctx)}
	var failed error
	for _, p := range chosen {
		r.part, r.began = p.name, time.Now()
		r.progress("begins")
		rows, err := p.measure(ctx, r)
		for _, row := range rows {
			row.Part = p.name
			found.Rows = append(found.Rows, row)
		}
		if err != nil {
			failed = fmt.Errorf("%s: %w", p.name, err)
			break
		}
		r.progress("done")
	}
	if len(found.Rows) == 0 {
		return failed
	}
	return errors.Join(failed, found.print(os.Stdout), found.save(file))
}
