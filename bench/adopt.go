package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// foreignKeys is how many keys of another service nobody uses: each string that was
// not minted is tried against all of them.
const foreignKeys = 100

// adoptedKey is one of another service that is used.
const adoptedKey = "lm_sys_a-key.of_another~service"

// adopt starts the Caddy with adopt_keys, and a store of its own.
func (s *server) adopt(ctx context.Context, folder, upstream, processors string) error {
	where := &place{driver: "sqlite", source: filepath.Join(folder, "keys.db")}
	err := where.with(ctx, func(keys store.Store) error {
		ours, err := mint(ctx, keys, 1, phc.Default(), admin.NewKey{Label: "bench"})
		if err != nil {
			return err
		}
		s.key = ours[0].plain
		return insertForeign(ctx, keys)
	})
	if err != nil {
		return err
	}
	caddy := &setup{folder: folder, options: []string{where.option(), "secret a-secret-of-the-bench", "adopt_keys on"}, quiet: true}
	s.auth = caddy.site("system_key_auth\nreverse_proxy " + upstream)
	if err := s.run(ctx, caddy, processors); err != nil {
		return err
	}
	if err := letIn(s.auth, adoptedKey); err != nil {
		return err
	}
	return s.exhaust(ctx)
}

// exhaust has searches spend what they may at once, so that what is measured is what
// goes on for ever. That is enough for a server on one processor.
func (s *server) exhaust(ctx context.Context) error {
	a := s.adoptionFloods(1)[1].assault
	a.Length = 10 * time.Second
	wait, err := a.begin(ctx, floodProcessor)
	if err == nil {
		_, _, err = wait()
	}
	return err
}

// insertForeign writes rows as another service does, at the default cost.
func insertForeign(ctx context.Context, keys store.Store) error {
	for i := range foreignKeys + 1 {
		key := adoptedKey
		if i > 0 {
			key = fmt.Sprintf("lm_sys_unused-%d", i)
		}
		hash, err := phc.Hash(key, phc.Default())
		if err != nil {
			return err
		}
		row := &store.Key{
			ID: store.ID(uuid.Must(uuid.NewV7())), Label: "theirs", Hash: store.Hash(hash), CreatedAt: time.Now(), CreatedBy: "bench", Foreign: true,
		}
		if err := keys.CreateKey(ctx, row, nil); err != nil {
			return err
		}
	}
	return nil
}

// adoptionFloods are those of unminted keys, at a server that searches for them.
func (s *server) adoptionFloods(rate int) []floodKind {
	strings := make([]string, floodCredentials)
	for i := range strings {
		strings[i] = unminted()
	}
	fast := assault{Address: s.auth, Path: "/", Credentials: strings, Connections: floodConnections, Unavailable: true}
	slow := fast
	slow.Pause = time.Second * floodConnections / time.Duration(rate)
	name := func(flood, client string) string { return flood + ", adopt_keys" + client }
	return []floodKind{
		{name: name("none", ""), address: s.auth, server: s},
		{name: name("(b) unminted keys", ""), address: s.auth, assault: fast, server: s},
		{name: name("(b) unminted", ", adopted client"), address: s.auth, assault: fast, server: s, key: adoptedKey},
		{name: name(fmt.Sprintf("(b) unminted, %d a second", rate), ""), address: s.auth, assault: slow, server: s},
		{name: name(fmt.Sprintf("(b) %d a second", rate), ", adopted client"), address: s.auth, assault: slow, server: s, key: adoptedKey},
	}
}
