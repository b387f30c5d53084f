package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"
)

const (
	floodConnections = 64
	floodCredentials = 4096
	floodProcessor   = "1"
)

// flood measures a client with a good key, alone and under floods, in rounds that
// alternate. The server has a processor of its own, and so has the flood.
func flood(ctx context.Context, rounds int, length time.Duration, rate int, processors string) error {
	usual, err := startServer(ctx, (*server).plain, processors)
	if err != nil {
		return err
	}
	defer usual.stop()
	adopting, err := startServer(ctx, (*server).adopt, processors)
	if err != nil {
		return err
	}
	defer adopting.stop()
	fmt.Printf("%s, %d processors, %s; %d rounds of %s; server on processor %s, %d connections of flood on %s, the client and its upstream on both\n\n",
		processor(), runtime.NumCPU(), runtime.Version(), rounds, length, processors, floodConnections, floodProcessor)
	kinds := append(usual.floods(rate), adopting.adoptionFloods(rate)...)
	results := make([][]underFlood, len(kinds))
	for range rounds {
		for i, k := range kinds {
			r, err := cmp.Or(k.server, usual).under(ctx, k, length)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			results[i] = append(results[i], r)
		}
	}
	fmt.Printf("%-46s %-22s %-22s %-22s %-16s %s\n", "flood", "p50, ms", "p99, ms", "p99 ÷ idle", "memory, MiB", "refusals per second")
	idle := 0
	for i, k := range kinds {
		if k.assault.Address == "" {
			idle = i // of the same server as those that follow
		}
		column := func(of func(r, idle underFlood) float64) []float64 {
			var values []float64
			for n, r := range results[i] {
				values = append(values, of(r, results[idle][n]))
			}
			return values
		}
		fmt.Printf("%-46s %-22s %-22s %-22s %-16s %s\n", k.name,
			spread(column(func(r, _ underFlood) float64 { return r.quantile(0.50) }), "%.2f"),
			spread(column(func(r, _ underFlood) float64 { return r.quantile(0.99) }), "%.2f"),
			spread(column(func(r, idle underFlood) float64 { return r.quantile(0.99) / idle.quantile(0.99) }), "%.1f"),
			spread(column(func(r, _ underFlood) float64 { return r.memory }), "%.0f"),
			spread(column(func(r, _ underFlood) float64 { return r.refused }), "%.0f"))
	}
	fmt.Println("\nmedian (least to most) of the rounds; each is compared with the idle one of its own round and server")
	return nil
}

type floodKind struct {
	name    string
	address string // where the client with the good key sends to
	assault assault
	// server and key are others than those that are measured mostly, or empty.
	server *server
	key    string
}

// floods are as fast as they can be, or at a rate per second; of a site that
// refuses without the plugin, which shows what is Caddy's own share; and of one
// with failure_limit.
func (s *server) floods(rate int) []floodKind {
	many := func(one func() string) []string {
		all := make([]string, floodCredentials)
		for i := range all {
			all[i] = one()
		}
		return all
	}
	at := func(address, path string, credentials []string) assault {
		return assault{Address: address, Path: path, Credentials: credentials, Connections: floodConnections}
	}
	const keysPath = "/v1/admin/system-keys"
	kinds := []floodKind{
		{name: "none", address: s.auth},
		{name: "(a) garbage", address: s.auth, assault: at(s.auth, "/", many(garbage))},
		{name: "(b) unminted keys", address: s.auth, assault: at(s.auth, "/", many(unminted))},
		{name: "(c) revoked keys", address: s.auth, assault: at(s.auth, "/", s.credentials.revoked)},
		{name: "(d) wrong JWTs, admin plane", address: s.auth, assault: at(s.admin, keysPath, many(wrongToken))},
		{name: "any, of a site without the plugin", address: s.auth, assault: at(s.refusing, "/", many(unminted))},
	}
	for _, k := range kinds[1:5] {
		k.name += fmt.Sprintf(", %d a second", rate)
		k.assault.Pause = time.Second * floodConnections / time.Duration(rate)
		kinds = append(kinds, k)
	}
	return append(kinds,
		floodKind{name: "(b) unminted keys, failure_limit", address: s.limited, assault: at(s.limited, "/", many(unminted))},
		floodKind{name: "(c) revoked keys, failure_limit", address: s.limited, assault: at(s.limited, "/", s.credentials.revoked)})
}

// underFlood is what a client met.
type underFlood struct {
	result
	memory  float64 // of the server at the end, MiB
	refused float64 // per second
}

// under has a client send while a flood lasts.
func (s *server) under(ctx context.Context, k floodKind, length time.Duration) (r underFlood, err error) {
	a := k.assault
	wait := func() (int64, int64, error) { return 0, 0, nil }
	if a.Connections > 0 {
		a.Length = length + time.Second // it begins before and ends after
		if wait, err = a.begin(ctx, floodProcessor); err != nil {
			return r, err
		}
		time.Sleep(500 * time.Millisecond)
	}
	w, err := dialWire(k.address, time.Now().Add(length+10*time.Second))
	if err != nil {
		return r, err
	}
	defer func() { _ = w.conn.Close() }()
	good := request(k.address, "/", cmp.Or(k.key, s.key))
	for end := time.Now().Add(length); ; {
		began := time.Now()
		if began.After(end) {
			break
		}
		status, err := w.send(good)
		if err != nil {
			return r, err
		}
		if status != 200 {
			return r, fmt.Errorf("a good key got %d", status)
		}
		r.latencies = append(r.latencies, time.Since(began))
		time.Sleep(500 * time.Microsecond) // a client, and not a flood of its own
	}
	slices.Sort(r.latencies)
	if r.memory, err = s.memory(); err != nil {
		return r, err
	}
	answers, others, err := wait()
	if err == nil && others > 0 {
		err = fmt.Errorf("%d of %d bad credentials got another answer than 401", others, answers)
	}
	r.refused = float64(answers) / max(a.Length.Seconds(), 1)
	return r, err
}
