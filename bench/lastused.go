package main

import (
	"context"
	"slices"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

const (
	activeKeys  = 10_000
	flushRounds = 21
)

// lastUsed measures what the flusher does once in every last_used_interval, for as
// many keys as were used in it: one call of the store.
func lastUsed(ctx context.Context, r *run) ([]row, error) {
	places, err := r.places(ctx)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, where := range places {
		var took []time.Duration
		err := where.with(ctx, func(s store.Store) error {
			if err := where.fill(ctx, activeKeys); err != nil {
				return err
			}
			uses, err := everyKey(ctx, s)
			if err != nil {
				return err
			}
			for range flushRounds + 1 {
				at := time.Now()
				for i := range uses {
					uses[i].At = at
				}
				if err := s.RecordUse(ctx, uses); err != nil {
					return err
				}
				took = append(took, time.Since(at))
			}
			took = took[1:] // the first was to warm up
			return nil
		})
		if err != nil {
			return nil, err
		}
		rows = append(rows, distribution(where.name+", 10,000 keys", "one flush", took)[:1]...)
	}
	return rows, nil
}

// everyKey is a use of every key that there is.
func everyKey(ctx context.Context, s store.Store) ([]store.Use, error) {
	var uses []store.Use
	query := store.KeyQuery{Limit: store.MaxLimit, Sort: store.SortCreatedAt}
	for {
		page, err := s.Keys(ctx, &query)
		if err != nil {
			return nil, err
		}
		uses = slices.Grow(uses, len(page.Keys))
		for i := range page.Keys {
			uses = append(uses, store.Use{ID: page.Keys[i].ID})
		}
		if query.After = page.Next; query.After == nil {
			return uses, nil
		}
	}
}
