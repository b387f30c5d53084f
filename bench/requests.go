package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// slice is how long a site is sent to before it is another's turn: whatever else the
// machine has to do meets all of them alike.
const slice = 500 * time.Millisecond

// requests compares sites with and without the plugin, and with what else Caddy has.
// A round is made of slices of each site, in turns that begin with another site each
// time; the ratios are to the bare site of the same server in the same round.
func requests(ctx context.Context, r *run) ([]row, error) {
	upstream := startUpstream()
	defer upstream.Close()
	one, err := r.onSQLite(ctx, upstream.Listener.Addr().String())
	if err != nil {
		return nil, err
	}
	defer one.stop()
	other, err := r.onPostgres(ctx, upstream.Listener.Addr().String())
	if err != nil {
		return nil, err
	}
	defer other.stop()
	without, err := r.alone(ctx, upstream.Listener.Addr().String())
	if err != nil {
		return nil, err
	}
	defer without.stop()
	without.contenders[0].bare = one.contenders[0]
	all := slices.Concat(one.contenders, other.contenders, without.contenders)
	for _, c := range all {
		if _, err := c.load(ctx, time.Second, r.clients); err != nil { // to warm up
			return nil, err
		}
	}
	turns := max(1, int(r.length/slice))
	for round := range r.rounds {
		r.progress("round %d of %d", round+1, r.rounds)
		results := make([]result, len(all))
		for turn := range turns {
			for n := range all {
				i := (n + round + turn) % len(all)
				part, err := all[i].load(ctx, min(slice, r.length), r.clients)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", all[i].name, err)
				}
				results[i].add(part)
			}
		}
		for i, c := range all {
			c.results = append(c.results, results[i])
		}
	}
	var rows []row
	for _, c := range all {
		rows = append(rows, c.rows()...)
	}
	return rows, nil
}

// rows are those of one site.
func (c *contender) rows() []row {
	against := func(other *contender, what, unit string, of func(r, other result) float64) row {
		values := make([]float64, len(c.results))
		for round, r := range c.results {
			values[round] = of(r, other.results[round])
		}
		return rowOf(c.name, what, unit, values)
	}
	figure := func(what, unit string, of func(r, bare result) float64) row { return against(c.bare, what, unit, of) }
	rows := []row{
		figure("requests", "/s", func(r, _ result) float64 { return r.rate() }),
		figure("CPU per request", "µs", func(r, _ result) float64 { return r.cost() }),
		figure("p50", milliseconds, func(r, _ result) float64 { return r.quantile(0.50) }),
		figure("p99", milliseconds, func(r, _ result) float64 { return r.quantile(0.99) }),
	}
	if c == c.bare {
		return rows
	}
	costs := func(r, other result) float64 { return r.cost() / other.cost() }
	rows = append(rows,
		figure("requests ÷ bare", ratio, func(r, bare result) float64 { return r.rate() / bare.rate() }),
		figure("CPU per request ÷ bare", ratio, costs))
	if c.floor != nil {
		rows = append(rows, against(c.floor, "CPU per request ÷ the same fields", ratio, costs))
	}
	return rows
}
