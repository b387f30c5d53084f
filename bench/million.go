package main

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/store"
)

const (
	starts = 5  // of a server on each store
	pages  = 20 // of each list
)

// million measures a server on a million keys, and one on a thousand beside it, on
// each kind of store.
func million(ctx context.Context, r *run) ([]row, error) {
	var rows []row
	for _, size := range []struct {
		keys int
		name string
	}{{1000, "1,000 keys"}, {1_000_000, "1,000,000 keys"}} {
		places, err := r.places(ctx)
		if err != nil {
			return nil, err
		}
		for _, where := range places {
			found, err := r.amid(ctx, where, size.keys, where.name+", "+size.name)
			if err != nil {
				return nil, err
			}
			rows = append(rows, found...)
		}
	}
	return rows, nil
}

// amid is what a server is like whose store has so many keys.
func (r *run) amid(ctx context.Context, where *place, n int, name string) ([]row, error) {
	var keys, admins []minted
	err := where.with(ctx, func(s store.Store) (err error) {
		if admins, err = mint(ctx, s, 1, cheap, admin.NewKey{Label: "admin", IsSystem: true}); err != nil {
			return err
		}
		keys, err = mint(ctx, s, 2*starts, phc.Default(), admin.NewKey{Label: "bench", Permissions: []string{"bots:read"}})
		return err
	})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := where.fill(ctx, n); err != nil {
		return nil, fmt.Errorf("fill %s: %w", where.name, err)
	}
	r.progress("%s: filled in %.0f s", name, time.Since(began).Seconds())
	folder, err := r.newFolder()
	if err != nil {
		return nil, err
	}
	caddy := &setup{folder: folder, options: []string{where.option()}, quiet: true}
	address := caddy.site("system_keys_admin\nsystem_key_auth\nrespond hello")
	m := measured{name: name}
	for pair := range slices.Chunk(keys, 2) {
		if err := m.start(ctx, caddy, address, pair); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := m.lists(ctx, caddy, address, admins[0], n); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return m.rows(), nil
}

// measured collects what a server on one store gave.
type measured struct {
	name           string
	ready, checked []time.Duration
	idle           []float64 // memory after the first checks, MiB
	listed         []row
}

// start starts a server, until the first of two keys is let in; then comes the other.
func (m *measured) start(ctx context.Context, caddy *setup, address string, keys []minted) error {
	began := time.Now()
	p, err := caddy.begin(ctx, "")
	if err != nil {
		return err
	}
	defer p.stop()
	w, err := soonLetIn(ctx, address, keys[0].plain)
	if err != nil {
		return err
	}
	defer func() { _ = w.conn.Close() }()
	m.ready = append(m.ready, time.Since(began))
	began = time.Now()
	status, err := w.send(request(address, "/", keys[1].plain))
	if err != nil || status != 200 {
		return fmt.Errorf("the first check of a key: status %d: %w", status, err)
	}
	m.checked = append(m.checked, time.Since(began))
	memory, err := p.memory()
	m.idle = append(m.idle, memory)
	return err
}

// soonLetIn tries every other millisecond until somebody listens and lets the key in.
func soonLetIn(ctx context.Context, address, key string) (*wire, error) {
	raw := request(address, "/", key)
	until := time.Now().Add(patience)
	for {
		w, err := dialWire(address, until)
		if err == nil {
			var status int
			if status, err = w.send(raw); err == nil && status == 200 {
				return w, nil
			}
			_ = w.conn.Close()
		}
		if ctx.Err() != nil || time.Now().After(until) {
			return nil, fmt.Errorf("nobody is let in: %w", err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// lists reads pages through the admin plane, at the beginning and far from it.
func (m *measured) lists(ctx context.Context, caddy *setup, address string, admin minted, n int) error {
	p, err := caddy.start(ctx, "")
	if err != nil {
		return err
	}
	defer p.stop()
	w, err := untilLetIn(ctx, address, admin.plain, time.Now().Add(patience), new(atomic.Int64))
	if err != nil {
		return err
	}
	_ = w.conn.Close()
	middle := &store.Key{CreatedAt: filledSince.Add(time.Duration(n/2) * time.Second)}
	deep := "&cursor=" + store.CursorAt(middle, store.SortCreatedAt, true).Encode()
	for _, list := range []struct {
		what, query string
		keys        int
	}{
		{"a page of 100, first", "", 100},
		{"a page of 100, in the middle", deep, 100},
		{"a search that finds one key", "&q=worker+000000ff", 1},
	} {
		var took []time.Duration
		for range pages {
			t, found, err := plane{address, admin.plain}.list(ctx, "limit=100&sort=-created_at"+list.query)
			if err == nil && found != list.keys {
				err = fmt.Errorf("it has %d keys", found)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", list.what, err)
			}
			took = append(took, t)
		}
		m.listed = append(m.listed, distribution(m.name, list.what, took)[:1]...)
	}
	memory, err := p.memory()
	m.listed = append(m.listed, single(m.name, "memory after the lists", mebibytes, memory, 1))
	return err
}

func (m *measured) rows() []row {
	return append([]row{
		distribution(m.name, "start to the first 200", m.ready)[0],
		distribution(m.name, "first check of a key", m.checked)[0],
		rowOf(m.name, "memory after the first checks", mebibytes, m.idle),
	}, m.listed...)
}
