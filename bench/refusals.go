package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/aclements/go-moremath/stats"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

// refusal is a kind of key that is refused.
type refusal struct {
	name     string
	unminted bool
	key      func() string
	took     []float64 // microseconds
}

// refusals sends keys of all kinds over one connection, in random order, and
// compares how long the answers took.
func refusals(ctx context.Context, samples int) error {
	server, err := startServer(ctx, "")
	if err != nil {
		return err
	}
	defer server.stop()
	kinds := server.refusalKinds()
	var order []int
	for i := range kinds {
		for range samples {
			order = append(order, i)
		}
	}
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	w, err := dialWire(server.address(), time.Now().Add(5*time.Minute))
	if err != nil {
		return err
	}
	defer func() { _ = w.conn.Close() }()
	for n, i := range append(order[:len(order)/10:len(order)/10], order...) {
		raw := request(server.address(), "/", kinds[i].key())
		began := time.Now()
		status, err := w.send(raw)
		took := time.Since(began)
		if err != nil || status != 401 {
			return fmt.Errorf("%s got %d: %w", kinds[i].name, status, err)
		}
		if n >= len(order)/10 { // what came before was to warm up
			kinds[i].took = append(kinds[i].took, float64(took.Nanoseconds())/1000)
		}
	}
	fmt.Printf("%s, %d processors, %s; %d refusals of each kind over one connection, in random order, µs\n\n",
		processor(), runtime.NumCPU(), runtime.Version(), samples)
	return tell(kinds)
}

func (s *server) refusalKinds() []*refusal {
	change := func(key string, at int) string { // to another digit
		digit := digits[(strings.IndexByte(digits, key[at])+1+rand.IntN(len(digits)-1))%len(digits)]
		return key[:at] + string(digit) + key[at+1:]
	}
	revoked := func() string { return s.credentials.revoked[rand.IntN(revokedKeys)] }
	return []*refusal{
		{name: "unminted: random digits", unminted: true, key: unminted},
		{name: "unminted: no digits", unminted: true, key: func() string { return token.Prefix + text("-._~+/", token.Length-len(token.Prefix)) }},
		{name: "unminted: numbers too large", unminted: true, key: func() string { return token.Prefix + strings.Repeat("z", token.Length-len(token.Prefix)) }},
		{name: "unminted: a live key, other tag", unminted: true, key: func() string { return change(s.key, token.Length-1) }},
		{name: "unminted: a live key, other secret", unminted: true, key: func() string { return change(s.key, 50) }},
		{name: "unminted: a live key, other id", unminted: true, key: func() string { return change(s.key, 20) }},
		{name: "unminted: a revoked key, other tag", unminted: true, key: func() string { return change(revoked(), token.Length-1) }},
		{name: "minted, and never stored", key: s.credentials.unknown},
		{name: "revoked", key: revoked},
	}
}

// separable is how far the probability that one of two takes longer may be from a
// half, and how sure that must be, before they are said to differ.
const (
	separableBy   = 0.05
	separableSure = 1e-4
)

// tell prints the distributions, and compares each kind with random digits: the
// probability that it takes longer (the common language effect size), and how
// probable so much is by chance (Mann and Whitney).
func tell(kinds []*refusal) error {
	fmt.Printf("%-36s %8s %8s %8s %8s %8s   %-8s %-10s\n", "kind", "p1", "p10", "p50", "p90", "p99", "P(longer)", "by chance")
	var differ []string
	for _, k := range kinds {
		sorted := slices.Sorted(slices.Values(k.took))
		at := func(q float64) float64 { return sorted[int(q*float64(len(sorted)-1))] }
		test, err := stats.MannWhitneyUTest(k.took, kinds[0].took, stats.LocationDiffers)
		if err != nil {
			return err
		}
		longer := test.U / float64(test.N1*test.N2)
		fmt.Printf("%-36s %8.1f %8.1f %8.1f %8.1f %8.1f   %-9.3f %-10.2g\n", k.name, at(0.01), at(0.1), at(0.5), at(0.9), at(0.99), longer, test.P)
		if k.unminted && (longer < 0.5-separableBy || longer > 0.5+separableBy) && test.P < separableSure {
			differ = append(differ, k.name)
		}
	}
	if len(differ) > 0 {
		return fmt.Errorf("these can be told from random digits by their time: %s", strings.Join(differ, "; "))
	}
	fmt.Println("\nno kind of unminted key can be told from another by its time")
	return nil
}
