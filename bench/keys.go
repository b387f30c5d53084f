package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/open"
)

// store makes a new store, and has it filled. It returns the line of a Caddyfile that
// names the store.
func (r *run) store(ctx context.Context, driver string, fill func(keys *admin.Service) error) (option string, err error) {
	where := open.Location{Driver: driver}
	if driver == open.SQLite {
		where.Name, err = r.file("keys.db")
	} else if err = r.databases(); err == nil {
		where.Name, err = r.servers.Database(ctx)
	}
	if err != nil {
		return "", err
	}
	s, err := where.Open(ctx, open.Options{})
	if err != nil {
		return "", err
	}
	defer func() { _ = s.Close() }() // what was written is committed
	if err := s.Migrate(ctx); err != nil {
		return "", err
	}
	mintKey, err := s.MintKey(ctx)
	if err != nil {
		return "", err
	}
	return "store " + where.Driver + " " + where.Name, fill(&admin.Service{
		Store: s, Minter: token.New(mintKey), Now: time.Now,
		Hash: func(_ context.Context, key string) (store.Hash, error) {
			hash, err := phc.Hash(key, phc.Default())
			return store.Hash(hash), err
		},
	})
}

// redis are the lines of a Caddyfile for Redis. All who ask share one.
func (r *run) redis() ([]string, error) {
	if err := r.databases(); err != nil {
		return nil, err
	}
	return []string{"redis " + r.servers.RedisURL(), "secret of-the-benchmarks-and-of-nobody-else"}, nil
}

// databases starts PostgreSQL and Redis at its first call. A commit waits for the disk.
func (r *run) databases() (err error) {
	if r.servers == nil {
		r.servers, err = testenv.StartServers(testenv.Durable(), testenv.Setting("shared_buffers", "128MB"))
	}
	return err
}

// file is the path of a new file, in a folder of its own.
func (r *run) file(name string) (string, error) {
	folder, err := os.MkdirTemp(r.folder, "")
	return filepath.Join(folder, name), err
}

// minted is a key that a store has.
type minted struct {
	id    store.ID
	plain string
}

// clientKey is the key of a client of the measured sites.
var clientKey = admin.NewKey{Label: "bench", Permissions: []string{"bots:read"}}

// mint makes a key.
func mint(ctx context.Context, keys *admin.Service, want admin.NewKey) (minted, error) {
	key, plain, err := keys.Create(ctx, admin.CLI(), want)
	if err != nil {
		return minted{}, err
	}
	return minted{key.ID, plain}, nil
}
