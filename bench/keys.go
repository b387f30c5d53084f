package main

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// minted is a key that a store has.
type minted struct {
	id    store.ID
	plain string
}

// cheap is for keys whose first check is not what is measured. A server that is
// not told to be as cheap would renew their hashes.
var cheap = phc.Params{Memory: 64, Iterations: 1, Parallelism: 1}

// mint makes so many keys, on all processors.
func mint(ctx context.Context, s store.Store, n int, cost phc.Params, want admin.NewKey) ([]minted, error) {
	mintKey, err := s.MintKey(ctx)
	if err != nil {
		return nil, err
	}
	service := &admin.Service{
		Store: s, Minter: token.New(mintKey), Now: time.Now,
		Hash: func(_ context.Context, key string) (store.Hash, error) {
			hash, err := phc.Hash(key, cost)
			return store.Hash(hash), err
		},
	}
	keys := make([]minted, n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range keys {
		group.Go(func() error {
			key, plain, err := service.Create(ctx, admin.CLI(), want)
			if err == nil {
				keys[i] = minted{key.ID, plain}
			}
			return err
		})
	}
	return keys, group.Wait()
}

// place is where keys are kept: a file or a database of its own.
type place struct {
	name string // for people
	// driver and source are as the Caddyfile has them.
	driver, source string
}

// option is the line of the Caddyfile.
func (p *place) option() string { return "store " + p.driver + " " + p.source }

// open opens the store, and makes its schema.
func (p *place) open(ctx context.Context) (s store.Store, err error) {
	if p.driver == "sqlite" {
		s, err = sqlite.Open(ctx, p.source, sqlite.Options{})
	} else {
		s, err = postgres.Open(ctx, p.source)
	}
	if err != nil {
		return nil, err
	}
	if err := s.Migrate(ctx); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// with calls what needs the store for a moment only.
func (p *place) with(ctx context.Context, do func(s store.Store) error) error {
	s, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // what it has written is committed
	return do(s)
}
