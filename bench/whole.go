package main

import (
	"context"
	"fmt"
	"time"
)

const (
	// posted is what a POST carries. With audit_requests each POST is an audit record.
	posted = `{"message":"hello"}`
	// settling is how long a server may finish the work behind its answers. It is
	// longer than a batch of the audit log waits.
	settling = 2 * time.Second
)

// whole compares processes over whole runs: a run is a new process, its clients, and
// the work behind its answers. A round is a run of each and then the same in reverse, so
// that a machine that becomes slower does so for all alike.
func (r *run) whole(ctx context.Context) ([]row, error) {
	built, err := r.build(ctx)
	if err != nil {
		return nil, err
	}
	const guard = "system_key_auth {\n" + unlimited + "\n}\n"
	stock := &site{name: "stock Caddy, bare"}
	bare := &site{name: "our build, bare", against: []*site{stock}}
	barePost := &site{name: "POST, our build, bare"}
	runs := []struct {
		*site
		build                build
		directives, contents string
	}{
		{stock, built.stock, "", ""},
		{bare, built.plain, "", ""},
		{&site{name: "our build, system_key_auth", against: []*site{stock, bare}}, built.plain, guard, ""},
		{&site{name: "our tuned build, system_key_auth", against: []*site{stock}}, built.tuned, guard, ""},
		{barePost, built.plain, "", posted},
		{&site{name: "POST, our build, system_key_auth and audit record", against: []*site{barePost}}, built.plain, guard, posted},
	}
	for round := range r.rounds {
		for _, backwards := range []bool{false, true} {
			r.progress("round %d of %d", round+1, r.rounds)
			for n := range runs {
				if backwards {
					n = len(runs) - 1 - n
				}
				met, err := r.once(ctx, runs[n].build, runs[n].directives, runs[n].contents)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", runs[n].name, err)
				}
				runs[n].results = append(runs[n].results, met)
			}
		}
	}
	sites := make([]*site, len(runs))
	for i := range runs {
		sites[i] = runs[i].site
	}
	return rowsOf(sites), nil
}

// once is one run. Without directives nothing of the plugin runs.
func (r *run) once(ctx context.Context, b build, directives, contents string) (met result, err error) {
	defer r.end()
	caddy, bearer, err := r.withKey(ctx)
	if err != nil {
		return met, err
	}
	if directives == "" {
		caddy.options = nil
	}
	caddy.build = b
	s := newSite("", caddy.site(directives+"reverse_proxy "+r.upstream()), bearer, contents)
	if err := r.serveWarm(ctx, caddy, s); err != nil {
		return met, err
	}
	time.Sleep(settling)
	before, err := s.cpu()
	if err != nil {
		return met, err
	}
	s.Length = r.length
	if met, err = s.load(ctx); err != nil {
		return met, err
	}
	time.Sleep(settling)
	after, err := s.cpu()
	met.cpu = after - before
	return met, err
}
