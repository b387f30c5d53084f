// Command bench measures the plugin on this machine, in a Caddy that is a process
// of its own. It sends to loopback only, for a bounded time.
//
//	bench           measures the first three of these: one table, and bench.json
//	bench requests  compares sites of one process, with the plugin and without, and with
//	                what else Caddy has
//	bench whole     compares processes: our builds, and Caddy as it is published
//	bench revoke    measures the time from a revocation to the first refusal
//	bench memory    measures the memory of our builds, untuned and tuned
//	bench profile   writes default.pgo, the profile that our builds are tuned by
//	bench flood     has a client with a good key send, alone and under floods of bad
//	                credentials, with the server and the flood on a processor each
//
// The benchmarks of single packages are in those packages: go test -bench.
package main

import (
	"context"
	"errors"
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
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// The processes that are started run this program too. The first argument says as
// what. The one for Caddy is Caddy's own command.
const (
	asCaddy   = "run"
	asFlood   = "as-flood"
	asService = "as-service"
)

func main() {
	role := ""
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	switch role {
	case asCaddy:
		caddycmd.Main()
	case asFlood:
		exitOn(attack(os.Stdin, os.Stdout))
	case asService:
		exitOn(serve(os.Args[2], os.Args[3]))
	default:
		// After an interrupt too, processes are ended and files are removed.
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err := measure(ctx, os.Args[1:])
		stop()
		exitOn(err)
	}
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// measure does what the command line says.
func measure(ctx context.Context, arguments []string) (err error) {
	name := ""
	if len(arguments) > 0 && !strings.HasPrefix(arguments[0], "-") {
		name, arguments = arguments[0], arguments[1:]
	}
	r := new(run)
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	flags.StringVar(&r.only, "only", "", "sites to compare, separated by semicolons, with what they are compared with; all if empty")
	flags.IntVar(&r.slices, "slices", 300, "slices of each site")
	flags.IntVar(&r.rounds, "rounds", 5, "rounds of each process, or of each flood")
	flags.DurationVar(&r.length, "length", 3*time.Second, "length of a run in a round, or of a flood")
	_ = flags.Parse(arguments) // exits on an error
	if r.slices < 1 || r.rounds < 1 {
		return errors.New("there is one slice and one round at least")
	}
	if r.folder, err = os.MkdirTemp("", "caddy-system-keys-bench-"); err != nil {
		return err
	}
	defer r.close()
	switch name {
	case "":
		return r.tabulate(ctx, "requests", "whole", "revoke")
	case "requests", "whole", "revoke", "memory":
		return r.tabulate(ctx, name)
	case "profile":
		return r.profile(ctx)
	case "flood":
		return r.flood(ctx)
	}
	return fmt.Errorf("there is no part %q", name)
}

// run is one run of the benchmarks, with what its parts share.
type run struct {
	only    string // the sites that "requests" compares
	slices  int
	rounds  int
	length  time.Duration
	folder  string           // for all files; it is removed at the end
	servers *testenv.Servers // nil until a part needs them
	ends    []func()         // end what the part has started, the newest last

	part  string // the part that is measured now
	began time.Time
}

// tabulate measures the parts one after another, prints the table and saves it. What
// was measured before a part failed is printed and saved too.
func (r *run) tabulate(ctx context.Context, parts ...string) error {
	found := &report{Machine: machine(ctx)}
	var failed error
	for _, part := range parts {
		r.part, r.began = part, time.Now()
		r.progress("begins")
		measure := map[string]func(context.Context) ([]row, error){
			"requests": r.requests, "whole": r.whole, "revoke": r.revoke, "memory": r.memory,
		}[part]
		rows, err := measure(ctx)
		for _, row := range rows {
			row.Part = part
			found.Rows = append(found.Rows, row)
		}
		if err != nil {
			failed = fmt.Errorf("%s: %w", part, err)
			break
		}
		r.progress("done")
	}
	if len(found.Rows) == 0 {
		return failed
	}
	return errors.Join(failed, found.print(os.Stdout), found.save("bench.json"))
}

// progress says on stderr how far the run is.
func (r *run) progress(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "%-9s %4.0f s  %s\n", r.part, time.Since(r.began).Seconds(), fmt.Sprintf(format, arguments...))
}

// end ends what the part has started, in reverse order.
func (r *run) end() {
	for _, end := range slices.Backward(r.ends) {
		end()
	}
	r.ends = nil
}

// close ends the databases, and removes all files.
func (r *run) close() {
	if r.servers != nil {
		_ = r.servers.Close() // what it has started ends with this process, too
	}
	_ = os.RemoveAll(r.folder)
}
