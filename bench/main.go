// Command bench measures the plugin on this machine, in a Caddy that is a process
// of its own. It sends to loopback only, for a bounded time.
//
//	bench            compares requests through the plugin, with and without an
//	                 assertion, with requests through bare Caddy: the rounds alternate,
//	                 and each round gives one ratio
//	bench flood      has a client with a good key send, alone and under floods of bad
//	                 credentials, with the server and the flood on a processor each
//	bench refusals   compares how long it takes to refuse keys of different kinds
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/lumio-vision/caddy-system-keys"
)

// asCaddy makes this program be Caddy: the server that is measured.
const asCaddy = "SYSTEM_KEYS_BENCH_CADDY"

func main() {
	if os.Getenv(asCaddy) != "" {
		caddycmd.Main()
		return
	}
	if os.Getenv(asFlood) != "" {
		attack()
		return
	}
	rounds := flag.Int("rounds", 5, "rounds of each site")
	length := flag.Duration("length", 3*time.Second, "length of a round")
	clients := flag.Int("clients", 16, "connections that send at once")
	rate := flag.Int("rate", 4000, "bad credentials a second, in the slower floods")
	processors := flag.String("processors", "0", "those of the server, in floods; the flood is on 1")
	samples := flag.Int("samples", 2000, "refusals of each kind")
	what := ""
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		what = os.Args[1]
		os.Args = append(os.Args[:1], os.Args[2:]...)
	}
	flag.Parse()
	var err error
	switch ctx := context.Background(); what {
	case "":
		err = bench(ctx, *rounds, *length, *clients)
	case "flood":
		err = flood(ctx, *rounds, *length, *rate, *processors)
	case "refusals":
		err = refusals(ctx, *samples)
	default:
		err = fmt.Errorf("there is no %q", what)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, rounds int, length time.Duration, clients int) error {
	server, err := startServer(ctx, "")
	if err != nil {
		return err
	}
	defer server.stop()
	fmt.Printf("%s, %d processors, %s; %d rounds of %s with %d connections\n\n",
		processor(), runtime.NumCPU(), runtime.Version(), rounds, length, clients)

	// All get the same requests: the bare site hands the credential on.
	var targets []target
	for _, site := range server.sites {
		targets = append(targets, target{site.name, site.url, "Bearer " + server.key})
	}
	for _, t := range targets { // warm all
		if _, err := t.load(ctx, server, time.Second, clients); err != nil {
			return err
		}
	}
	results := make([][]result, len(targets))
	for range rounds {
		for i, t := range targets {
			r, err := t.load(ctx, server, length, clients)
			if err != nil {
				return err
			}
			results[i] = append(results[i], r)
		}
	}
	for i, t := range targets {
		report(t.name, results[i])
	}
	for i, t := range targets[1:] {
		var rates, costs []float64
		for round := range rounds {
			rates = append(rates, results[i+1][round].rate()/results[0][round].rate())
			costs = append(costs, results[i+1][round].cost()/results[0][round].cost())
		}
		fmt.Printf("\n%s ÷ bare, median (min to max) of %d rounds\n", t.name, rounds)
		fmt.Printf("  requests per second  %s\n", spread(rates, "%.3f"))
		fmt.Printf("  CPU per request      %s\n", spread(costs, "%.3f"))
	}
	return nil
}

func report(name string, results []result) {
	var rates, costs, p50s, p99s []float64
	for _, r := range results {
		rates = append(rates, r.rate())
		costs = append(costs, r.cost())
		p50s = append(p50s, r.quantile(0.50))
		p99s = append(p99s, r.quantile(0.99))
	}
	fmt.Printf("%s\n", name)
	fmt.Printf("  requests per second  %s\n", spread(rates, "%.0f"))
	fmt.Printf("  CPU per request, µs  %s\n", spread(costs, "%.1f"))
	fmt.Printf("  p50, ms              %s\n", spread(p50s, "%.2f"))
	fmt.Printf("  p99, ms              %s\n", spread(p99s, "%.2f"))
}

func spread(values []float64, format string) string {
	sorted := slices.Sorted(slices.Values(values))
	return fmt.Sprintf(format+" ("+format+" to "+format+")", sorted[len(sorted)/2], sorted[0], sorted[len(sorted)-1])
}
