package main

import (
	"context"

	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

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
