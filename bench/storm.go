package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/store"
)

const (
	stormKeys   = 1000
	stormRounds = 3 // of servers that find proofs in Redis
	// stormPatience is how long all together may take to be let in.
	stormPatience = 3 * time.Minute
)

// storm has a thousand clients, each with a key of its own, come to a server that
// has just started: all at once with an empty Redis, then to others that find there
// what the first has done, and to others again within a second.
func storm(ctx context.Context, r *run) ([]row, error) {
	where, err := r.postgres(ctx)
	if err != nil {
		return nil, err
	}
	redis, err := r.redis()
	if err != nil {
		return nil, err
	}
	r.progress("mints %d keys", stormKeys)
	var keys []minted
	err = where.with(ctx, func(s store.Store) (err error) {
		keys, err = mint(ctx, s, stormKeys+1, phc.Default(), admin.NewKey{Label: "storm", Permissions: []string{"bots:read"}})
		return err
	})
	if err != nil {
		return nil, err
	}
	upstream := startUpstream()
	defer upstream.Close()
	var rows []row
	for _, kind := range []struct {
		name   string
		rounds int
		within time.Duration
	}{
		{"1,000 keys at once, Redis empty", 1, 0}, // once only, as it is not empty then
		{"1,000 keys at once, Redis has proofs", stormRounds, 0},
		{"1,000 keys in a second, Redis has proofs", stormRounds, time.Second},
	} {
		var all []stormed
		for round := range kind.rounds {
			r.progress("%s: %d of %d", kind.name, round+1, kind.rounds)
			folder, err := r.newFolder()
			if err != nil {
				return nil, err
			}
			caddy := &setup{folder: folder, options: append([]string{where.option()}, redis...), quiet: true}
			address := caddy.site("system_key_auth\nreverse_proxy " + upstream.Listener.Addr().String())
			s, err := caddy.storm(ctx, address, keys, kind.within)
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
		rows = append(rows, stormRows(kind.name, all)...)
	}
	return rows, nil
}

// stormed is what a storm was like.
type stormed struct {
	took    time.Duration // until all were let in
	refused int64         // answers 503 on the way
	before  float64       // memory, MiB
	peak    float64
	warm    result // of the client that was there before
}

func stormRows(name string, all []stormed) []row {
	figure := func(what, unit string, of func(s stormed) float64) row {
		values := make([]float64, len(all))
		for i, s := range all {
			values[i] = of(s)
		}
		return rowOf(name, what, unit, values)
	}
	return []row{
		figure("until all got 200", "s", func(s stormed) float64 { return s.took.Seconds() }),
		figure("answers 503 on the way", count, func(s stormed) float64 { return float64(s.refused) }),
		figure("p50 of a warm key meanwhile", milliseconds, func(s stormed) float64 { return s.warm.quantile(0.50) }),
		figure("p99 of a warm key meanwhile", milliseconds, func(s stormed) float64 { return s.warm.quantile(0.99) }),
		figure("memory before", mebibytes, func(s stormed) float64 { return s.before }),
		figure("memory at its peak", mebibytes, func(s stormed) float64 { return s.peak }),
	}
}

// storm starts the Caddy, has the last key warm, and then all others come, within a
// time or at once.
func (s *setup) storm(ctx context.Context, address string, keys []minted, within time.Duration) (found stormed, err error) {
	p, err := s.start(ctx, "")
	if err != nil {
		return found, err
	}
	defer p.stop()
	until := time.Now().Add(stormPatience)
	warm, err := untilLetIn(ctx, address, keys[len(keys)-1].plain, until, new(atomic.Int64))
	if err != nil {
		return found, err
	}
	defer func() { _ = warm.conn.Close() }()
	if found.before, err = p.memory(); err != nil {
		return found, err
	}
	var over atomic.Bool
	var client errgroup.Group
	client.Go(func() (err error) {
		found.warm, err = visit(warm, request(address, "/", keys[len(keys)-1].plain), &over)
		return err
	})
	var refused atomic.Int64
	began := time.Now()
	err = together(keys[:len(keys)-1], func(k minted) error {
		time.Sleep(time.Duration(rand.Float64() * float64(within)))
		w, err := untilLetIn(ctx, address, k.plain, until, &refused)
		if err == nil {
			_ = w.conn.Close()
		}
		return err
	})
	found.took, found.refused = time.Since(began), refused.Load()
	over.Store(true)
	if err := errors.Join(err, client.Wait()); err != nil {
		return found, err
	}
	found.peak, err = p.peak()
	return found, err
}

// together calls do for each key, all at the same time.
func together(keys []minted, do func(k minted) error) error {
	begin := make(chan struct{})
	errs := make([]error, len(keys))
	var group sync.WaitGroup
	for i, k := range keys {
		group.Go(func() {
			<-begin
			errs[i] = do(k)
		})
	}
	close(begin)
	group.Wait()
	return errors.Join(errs...)
}

// untilLetIn is a client that gets 200, and comes back as Retry-After says for as
// long as it gets 503, a second later at most, so that not all come back in step. It
// counts those, and returns its connection.
func untilLetIn(ctx context.Context, address, key string, until time.Time, refused *atomic.Int64) (*wire, error) {
	w, err := dialWire(address, until)
	if err != nil {
		return nil, err
	}
	for raw := request(address, "/", key); ; {
		status, err := w.send(raw)
		if err == nil && status == 200 {
			return w, nil
		}
		if err == nil && status != 503 {
			err = fmt.Errorf("a good key got %d", status)
		}
		if err != nil {
			_ = w.conn.Close()
			return nil, err
		}
		refused.Add(1)
		select {
		case <-ctx.Done():
			_ = w.conn.Close()
			return nil, ctx.Err()
		case <-time.After(w.retryAfter + time.Duration(rand.Int64N(int64(time.Second)))):
		}
	}
}
