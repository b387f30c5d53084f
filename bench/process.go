package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is this program in another role, in a process of its own.
type process struct {
	cmd *exec.Cmd
}

// patience is how long a process may take to listen, or to end.
const patience = 20 * time.Second

// command is this program with variables in its environment, on the processors of a
// list (taskset(1)) or on all. It is asked to end when the context does.
func command(ctx context.Context, processors string, environment []string, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	argv := append([]string{self}, args...)
	if processors != "" {
		argv = append([]string{"taskset", "-c", processors}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), environment...)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	return cmd, nil
}

// start starts a command, which stop ends.
func start(ctx context.Context, processors string, environment []string, args ...string) (*process, error) {
	cmd, err := command(ctx, processors, environment, args...)
	if err != nil {
		return nil, err
	}
	return &process{cmd}, cmd.Start()
}

// stop ends it in good order, and returns when it has ended.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	overdue := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer overdue.Stop()
	_ = p.cmd.Wait()
}

// cpu is the processor time that it has used: that of all its threads, to the
// nanosecond, where proc(5) counts in ticks of ten milliseconds.
func (p *process) cpu() (time.Duration, error) {
	// The clock of a process is its id and the kind of the clock, as
	// clock_getcpuclockid(3) makes it; 2 is CPUCLOCK_SCHED.
	id := int32(^p.cmd.Process.Pid)<<3 | 2
	var used unix.Timespec
	if err := unix.ClockGettime(id, &used); err != nil {
		return 0, fmt.Errorf("read the processor time of a process: %w", err)
	}
	return time.Duration(used.Nano()), nil
}

// memory is what it has in memory now, in MiB (proc(5), status).
func (p *process) memory() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, errors.New("cannot read the memory of a process")
	}
	kib, err := strconv.ParseFloat(fields[0], 64)
	return kib / 1024, err
}

// await returns when somebody listens on all the addresses.
func await(ctx context.Context, addresses ...string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var dialer net.Dialer
	for _, address := range addresses {
		for {
			conn, err := dialer.DialContext(ctx, "tcp", address)
			if err == nil {
				_ = conn.Close()
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("nobody listens on %s: %w", address, err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

func freeAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0"
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}
