// Command bench measures the plugin on this machine, in a Caddy that is a process
// of its own. It sends to loopback only, for a bounded time.
//
//	bench           makes one table, and a file of JSON, of both of these:
//	bench requests  compares sites with the plugin with bare ones, and with what else Caddy has
//	bench revoke    measures the time from a revocation to the first refusal
//	bench flood     has a client with a good key send, alone and under floods of bad
//	                credentials, with the server and the flood on a processor each
//
// What one package does alone is measured by its own benchmarks: go test -bench.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/lumio-vision/caddy-system-keys"
)

// options are what a run can be told.
type options struct {
	rounds  int
	length  time.Duration
	clients int
}

func main() {
	switch {
	case os.Getenv(asCaddy) != "":
		caddycmd.Main()
		return
	case os.Getenv(asFlood) != "":
		attack()
		return
	case os.Getenv(asService) != "":
		service()
		return
	}
	// What was started is ended, and what was written removed, after an interrupt too.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := measure(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// measure does what the command line says.
func measure(ctx context.Context) error {
	var names []string
	arguments := os.Args[1:]
	for len(arguments) > 0 && !strings.HasPrefix(arguments[0], "-") {
		names, arguments = append(names, arguments[0]), arguments[1:]
	}
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	var o options
	flags.IntVar(&o.rounds, "rounds", 5, "rounds of each site, or of each flood")
	flags.DurationVar(&o.length, "length", 3*time.Second, "length of a round")
	flags.IntVar(&o.clients, "clients", 16, "connections that send at once")
	file := flags.String("json", "bench.json", "file for the table as JSON")
	rate := flags.Int("rate", 4000, "bad credentials a second, in the slower floods")
	processors := flags.String("processors", "0", "those of the server, in floods; the flood is on 1")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if slices.Equal(names, []string{"flood"}) {
		return flood(ctx, o.rounds, o.length, *rate, *processors)
	}
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	return tabulate(ctx, o, chosen, *file)
}
