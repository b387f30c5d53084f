package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// report is what a run has found.
type report struct {
	Machine string `json:"machine"`
	Rows    []row  `json:"rows"`
}

// row is a figure of n slices, runs or samples. In requests and whole it is a trimmed
// mean with a spread of 95 % by bootstrap. Elsewhere it is the median, with the least
// and the most.
type row struct {
	Part  string  `json:"part"`
	Name  string  `json:"name"`
	What  string  `json:"what"`
	Unit  string  `json:"unit"`
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	N     int     `json:"n"`
}

// The units that have a form of their own, or that several parts have.
const (
	milliseconds = "ms"
	ratio        = "×"
	count        = ""
)

// print writes the report as one table.
func (r *report) print(w io.Writer) error {
	fmt.Fprintf(w, "%s\n\n", r.Machine)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "part\tof\twhat\tvalue\t(spread)\tn")
	for _, row := range r.Rows {
		what := row.What
		if row.Unit != count {
			what += ", " + row.Unit
		}
		spread := ""
		if row.Low != row.High {
			spread = fmt.Sprintf("(%s to %s)", short(row.Unit, row.Low), short(row.Unit, row.High))
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\n", row.Part, row.Name, what, short(row.Unit, row.Value), spread, row.N)
	}
	return table.Flush()
}

// save writes the report to a file, as JSON.
func (r *report) save(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o600)
}

// short writes a figure with three significant digits, and a ratio with three digits
// behind the point.
func short(unit string, v float64) string {
	switch {
	case unit == ratio:
		return strconv.FormatFloat(v, 'f', 3, 64)
	case v >= 100 || v == 0:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	text := strconv.FormatFloat(v, 'g', 3, 64)
	if strings.Contains(text, "e") {
		return strconv.FormatFloat(v, 'f', 6, 64)
	}
	return text
}

// distribution makes a figure of all samples, and one of their p99.
func distribution(name, what string, samples []time.Duration) []row {
	values := make([]float64, len(samples))
	for i, d := range samples {
		values[i] = inMilliseconds(d)
	}
	slices.Sort(values)
	p99 := rowOf(name, what+", p99", milliseconds, []float64{quantile(values, 0.99)})
	p99.N = len(values)
	return []row{rowOf(name, what, milliseconds, values), p99}
}

// rowOf makes a figure of values, of which there is one at least.
func rowOf(name, what, unit string, values []float64) row {
	sorted := slices.Sorted(slices.Values(values))
	return row{
		Name: name, What: what, Unit: unit,
		Value: quantile(sorted, 0.5), Low: sorted[0], High: sorted[len(sorted)-1], N: len(sorted),
	}
}

// quantile is the nearest rank: the least value that is not below a part q of all
// values. The values are sorted, and there is one at least.
func quantile[T any](sorted []T, q float64) T {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func inMilliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// machine says where, when and of what a run was made. The load says how many programs
// wanted a processor when the run began.
func machine(ctx context.Context) string {
	caddyVersion, _ := caddy.Version()
	commit, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--exclude=*").Output()
	if err != nil {
		commit = []byte("unknown commit")
	}
	kib, _ := strconv.ParseFloat(strings.TrimSuffix(field("/proc/meminfo", "MemTotal", ":"), " kB"), 64)
	linux, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	loads, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(loads), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return fmt.Sprintf("%s, %d processors, %.0f GiB; %s, Linux %s; %s, Caddy %s; %s, %s; load at the start %.1f",
		processor(), runtime.NumCPU(), kib/(1<<20), strings.Trim(field("/etc/os-release", "PRETTY_NAME", "="), `"`),
		strings.TrimSpace(string(linux)), runtime.Version(), caddyVersion,
		time.Now().UTC().Format(time.RFC3339), strings.TrimSpace(string(commit)), load)
}

func processor() string { return field("/proc/cpuinfo", "model name", ":") }

// field is the first value of that name in a file of names and values, or "unknown".
func field(file, name, separator string) string {
	text, _ := os.ReadFile(file) // no file, no value
	for line := range strings.Lines(string(text)) {
		if found, value, ok := strings.Cut(line, separator); ok && strings.TrimSpace(found) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
