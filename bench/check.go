package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// checkCount is how often each benchmark is run.
const checkCount = "5"

// benchmarks are runs of go test -bench: of which packages, of what, and how long.
var benchmarks = []struct {
	packages    []string
	named, time string
}{
	{
		[]string{"./internal/verify", "./internal/header", "./internal/cut", "./internal/assertion", "./upstream", "./caddymodule"},
		"Admit|Unminted|Strip|Inject|Exchange|Make|Verify|Handler", "100ms",
	},
}

// checked are the figures of them that get into the table.
var checked = []struct{ benchmark, unit, name, what string }{
	{"Admit/check", "ns/op", "warm check", "time"},
	{"Admit/check", "allocs/op", "warm check", "allocations"},
	{"Admit/registered", "ns/op", "warm check, registered to be cut", "time"},
	{"Admit/registered", "allocs/op", "warm check, registered to be cut", "allocations"},
	{"Strip/common", "ns/op", "headers: strip", "time"},
	{"Strip/common", "allocs/op", "headers: strip", "allocations"},
	{"Strip/attack", "ns/op", "headers: strip forged ones", "time"},
	{"Strip/attack", "allocs/op", "headers: strip forged ones", "allocations"},
	{"Inject", "ns/op", "headers: inject", "time"},
	{"Inject", "allocs/op", "headers: inject", "allocations"},
	{"Exchange", "ns/op", "an exchange that can be cut", "time"},
	{"Exchange", "allocs/op", "an exchange that can be cut", "allocations"},
	{"Unminted", "ns/op", "a string that nobody minted", "time"},
	{"Unminted", "allocs/op", "a string that nobody minted", "allocations"},
	{"Make/bound", "ns/op", "assertion: sign", "time"},
	{"Make/bound", "allocs/op", "assertion: sign", "allocations"},
	{"Make/unbound", "ns/op", "assertion: unbound, signed before", "time"},
	{"Make/unbound", "allocs/op", "assertion: unbound, signed before", "allocations"},
	{"Verify", "ns/op", "assertion: verify, in the upstream", "time"},
	{"Verify", "allocs/op", "assertion: verify, in the upstream", "allocations"},
	{"Handler/bare", "ns/op", "making a request, without a handler", "time"},
	{"Handler/bare", "allocs/op", "making a request, without a handler", "allocations"},
	{"Handler/with_system_key_auth", "ns/op", "the same, system_key_auth", "time"},
	{"Handler/with_system_key_auth", "allocs/op", "the same, system_key_auth", "allocations"},
	{"Handler/with_assertion", "ns/op", "the same, with assertion", "time"},
	{"Handler/with_assertion", "allocs/op", "the same, with assertion", "allocations"},
}

// check measures the parts of a warm check, and the whole handler without a network.
func check(ctx context.Context, r *run) ([]row, error) {
	found := make(map[string][]float64)
	for _, b := range benchmarks {
		r.progress("%s", b.named)
		arguments := append([]string{
			"test", "-run", "^$", "-bench", "^Benchmark(" + b.named + ")$",
			"-benchtime", b.time, "-benchmem", "-count", checkCount,
		}, b.packages...)
		cmd := exec.CommandContext(ctx, "go", arguments...)
		// What it starts is to end with it.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
		cmd.WaitDelay = patience
		var errors bytes.Buffer
		cmd.Stderr = &errors
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go test -bench: %w\n%s%s", err, out, errors.Bytes())
		}
		if err := parseBenchmarks(string(out), found); err != nil {
			return nil, err
		}
	}
	var rows []row
	for _, c := range checked {
		values := found[c.benchmark+" "+c.unit]
		if len(values) == 0 {
			return nil, fmt.Errorf("no benchmark %s has said %s", c.benchmark, c.unit)
		}
		unit := "ns"
		if c.unit == "allocs/op" {
			unit = count
		}
		rows = append(rows, rowOf(c.name, c.what, unit, values))
	}
	return rows, nil
}

// parseBenchmarks adds what go test -bench has printed, by the benchmark's name
// without "Benchmark" and the unit. Other lines are passed over.
func parseBenchmarks(out string, found map[string][]float64) error {
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(fields[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i] // the number of processors
			}
		}
		for i := 2; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return fmt.Errorf("a benchmark has printed %q: %w", strings.TrimSpace(line), err)
			}
			found[name+" "+fields[i+1]] = append(found[name+" "+fields[i+1]], value)
		}
	}
	return nil
}
