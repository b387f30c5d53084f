package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/sys/unix"
)

// machine is where and when a run was made, and of what.
type machine struct {
	Processor  string  `json:"processor"`
	Processors int     `json:"processors"`
	Memory     float64 `json:"memory_gib"`
	OS         string  `json:"os"`
	Go         string  `json:"go"`
	Caddy      string  `json:"caddy"`
	Date       string  `json:"date"`
	Commit     string  `json:"commit"`
	// Load is how many wanted a processor when the run began: others were busy.
	Load float64 `json:"load"`
}

func (m machine) String() string {
	return fmt.Sprintf("%s, %d processors, %.0f GiB; %s; %s, Caddy %s; %s, %s; load at the start %.1f",
		m.Processor, m.Processors, m.Memory, m.OS, m.Go, m.Caddy, m.Date, m.Commit, m.Load)
}

// thisMachine tells of it what can be found out.
func thisMachine(ctx context.Context) machine {
	caddyVersion, _ := caddy.Version()
	m := machine{
		Processor:  processor(),
		Processors: runtime.NumCPU(),
		OS:         operatingSystem(),
		Go:         runtime.Version(),
		Caddy:      caddyVersion,
		Date:       time.Now().UTC().Format(time.RFC3339),
		Commit:     commit(ctx),
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil {
		m.Memory = float64(info.Totalram) * float64(info.Unit) / (1 << 30)
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		first, _, _ := strings.Cut(string(load), " ")
		m.Load, _ = strconv.ParseFloat(first, 64)
	}
	return m
}

// processor is what it calls itself.
func processor() string {
	return field("/proc/cpuinfo", "model name", ":", "unknown processor")
}

func operatingSystem() string {
	name := field("/etc/os-release", "PRETTY_NAME", "=", runtime.GOOS)
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		name += ", " + unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	return strings.ReplaceAll(name, `"`, "")
}

// field is the first value of that name in a file.
func field(file, name, separator, otherwise string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return otherwise
	}
	for line := range strings.Lines(string(text)) {
		if found, value, ok := strings.Cut(line, separator); ok && strings.TrimSpace(found) == name {
			return strings.TrimSpace(value)
		}
	}
	return otherwise
}

// commit is that of the working folder, and says if there is more than it has.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--exclude=*").Output()
	if err != nil {
		return "unknown commit"
	}
	return strings.TrimSpace(string(out))
}
