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
