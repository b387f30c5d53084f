package main

import (
	"context"
	"crypto/rand"
	"slices"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// A cold check is compared in rounds of pairs; each round gives the ratio of its two
// medians.
const (
	coldRounds = 9
	coldPairs  = 12
)

// cold compares the first check of a key on this instance, without Redis, with what
// cannot be done without: the bare Argon2id of the same parameters and one row.
func cold(ctx context.Context, r *run) ([]row, error) {
	where, err := r.sqlite()
	if err != nil {
		return nil, err
	}
	var keys []minted
	err = where.with(ctx, func(s store.Store) (err error) {
		keys, err = mint(ctx, s, coldRounds*coldPairs, phc.Default(), admin.NewKey{Label: "cold", Permissions: []string{"bots:read"}})
		return err
	})
	if err != nil {
		return nil, err
	}
	live, stop, err := startEngine(ctx, where)
	if err != nil {
		return nil, err
	}
	defer stop()

	cost, salt := phc.Default(), make([]byte, 16)
	_, _ = rand.Read(salt) // it never fails
	ways := [2]func(k minted) error{
		func(k minted) error {
			_, err := live.Verifier.Verify(ctx, k.plain)
			return err
		},
		func(k minted) error {
			argon2.IDKey([]byte(k.plain), salt, cost.Iterations, cost.Memory, cost.Parallelism, 32)
			_, err := live.Store.Key(ctx, k.id)
			return err
		},
	}
	var all [2][]time.Duration
	var ratios []float64
	for pairs := range slices.Chunk(keys, coldPairs) {
		var took [2][]time.Duration
		for i, k := range pairs {
			for n := range ways {
				way := (n + i) % 2 // which of the two is first changes
				began := time.Now()
				if err := ways[way](k); err != nil {
					return nil, err
				}
				took[way] = append(took[way], time.Since(began))
			}
		}
		for way := range ways {
			slices.Sort(took[way])
			all[way] = append(all[way], took[way]...)
		}
		ratios = append(ratios, float64(quantile(took[0], 0.5))/float64(quantile(took[1], 0.5)))
	}
	return slices.Concat(
		distribution("cold check, SQLite", "time", all[0])[:1],
		distribution("argon2.IDKey and one row", "time", all[1])[:1],
		[]row{rowOf("cold check, SQLite", "time ÷ argon2.IDKey and one row", ratio, ratios)},
	), nil
}

// startEngine is what a server has behind its handlers, in this process.
func startEngine(ctx context.Context, where *place) (_ *engine.Live, stop func(), err error) {
	e, err := engine.New(engine.Config{
		Open: where.open, Embedded: true,
		Argon2id: phc.Default(), HashMemory: 256 << 20,
		Lease: 30 * time.Second, LastUsedInterval: 10 * time.Second, AuditRetention: 24 * time.Hour,
	})
	if err != nil {
		return nil, nil, err
	}
	if err := e.Start(ctx); err != nil {
		return nil, nil, err
	}
	stop = func() { _ = e.Close() }
	live, err := e.Live()
	if err != nil {
		stop()
		return nil, nil, err
	}
	select {
	case <-live.Follower.Ready():
		return live, stop, nil
	case <-ctx.Done():
		stop()
		return nil, nil, ctx.Err()
	}
}
