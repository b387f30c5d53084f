package main

import (
	"context"
	"fmt"
	"net/http"
)

// idleConnections is how many connections the measured memory is for.
const idleConnections = 10_000

// memory compares the memory of an untuned and a tuned build: after the start, under a
// flood, and then with many connections that wait after a request each.
func (r *run) memory(ctx context.Context) (rows []row, err error) {
	built, err := r.build(ctx)
	if err != nil {
		return nil, err
	}
	for _, b := range []build{built.plain, built.tuned} {
		var found [3][]float64
		for round := range r.rounds {
			r.progress("%s, round %d of %d", b.name, round+1, r.rounds)
			met, err := r.occupied(ctx, b)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", b.name, err)
			}
			for i := range found {
				found[i] = append(found[i], met[i])
			}
		}
		for i, what := range []string{"at the start", "under flood", fmt.Sprintf("%d connections", idleConnections)} {
			rows = append(rows, rowOf(b.name, "memory, "+what, "MiB", found[i]))
		}
	}
	return rows, nil
}

// occupied is one run: the memory after the start, under the flood, and with the
// connections, in MiB.
func (r *run) occupied(ctx context.Context, b build) (met [3]float64, err error) {
	defer r.end()
	caddy, bearer, err := r.withKey(ctx)
	if err != nil {
		return met, err
	}
	caddy.build = b
	address := caddy.site("system_key_auth\nreverse_proxy " + r.upstream())
	p, err := r.caddy(ctx, caddy, "")
	if err != nil {
		return met, err
	}
	if met[0], err = p.memory(); err != nil {
		return met, err
	}
	flood := newFlood(address, "/", credentials(unminted))
	flood.Length, flood.Accepted = r.length, append(flood.Accepted, http.StatusServiceUnavailable)
	wait, err := r.beginFlood(ctx, flood)
	if err != nil {
		return met, err
	}
	if _, err := wait(); err != nil {
		return met, err
	}
	if met[1], err = p.memory(); err != nil {
		return met, err
	}
	many := newSite("", address, bearer, "").target
	many.Clients = idleConnections
	if err := many.connect(); err != nil {
		return met, err
	}
	defer many.disconnect()
	for _, w := range many.wires { // one after another, or each would have its own to the upstream
		status, err := w.send(many.Requests[0])
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("a good key got %d", status)
		}
		if err != nil {
			return met, err
		}
	}
	met[2], err = p.memory()
	return met, err
}
