package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a process may take to listen, or to end.
const patience = 20 * time.Second

// caddyfile is what a Caddy is to be. Its sites listen on loopback.
type caddyfile struct {
	build build
	// options are the lines of the global option system_keys. Without any, the option
	// is not there, and nothing of the plugin runs.
	options   []string
	admin     string // the address of the admin endpoint, if it is on
	sites     strings.Builder
	addresses []string
}

// site adds a site with these directives, and returns its address.
func (c *caddyfile) site(directives string) string {
	address := freeAddress()
	c.addresses = append(c.addresses, address)
	fmt.Fprintf(&c.sites, "http://%s {\n%s\n}\n", address, directives)
	return address
}

// caddy starts a Caddy on the processors of a list (taskset(1)), or on all. It waits
// until the Caddy listens everywhere. The log leaves out why requests were refused,
// since floods would fill it.
func (r *run) caddy(ctx context.Context, c *caddyfile, processors string) (*process, error) {
	app := ""
	if len(c.options) > 0 {
		app = "system_keys {\n\t\t" + strings.Join(c.options, "\n\t\t") + "\n\t}"
	}
	text := fmt.Sprintf(`{
	admin %s
	persist_config off
	default_bind 127.0.0.1
	grace_period 2s
	log {
		level ERROR
		exclude http.handlers.system_key_auth
	}
	%s
}
%s`, cmp.Or(c.admin, "off"), app, c.sites.String())
	p, err := r.start(ctx, c.build, processors, text, asCaddy, "--config", "-", "--adapter", "caddyfile")
	if err != nil {
		return nil, err
	}
	return p, await(ctx, c.addresses...)
}

// upstream starts what all sites hand requests on to, and returns its address.
func (r *run) upstream() string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("hello"))
	}))
	r.ends = append(r.ends, server.Close)
	return server.Listener.Addr().String()
}

// service starts the service that forward_auth asks, and returns its address.
func (r *run) service(ctx context.Context, credential string) (p *process, address string, err error) {
	address = freeAddress()
	if p, err = r.start(ctx, build{}, "", "", asService, address, credential); err != nil {
		return nil, "", err
	}
	return p, address, await(ctx, address)
}

// serve is that service, in its process. It does as little as such a service can: it
// compares one digest.
func serve(address, credential string) error {
	want := sha256.Sum256([]byte(credential))
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get("Authorization")))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("X-User", "bench")
	}))
}

// process is a Caddy, or this program in another role.
type process struct {
	*exec.Cmd
	output io.Reader // what it prints; to be read before Wait is called
}

// start starts a program, on the processors of a list (taskset(1)) or on all, with a
// text to read. The end of the part asks the process to end, and
// kills it if it does not.
func (r *run) start(ctx context.Context, b build, processors, input string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	argv := append([]string{cmp.Or(b.program, self)}, args...)
	if processors != "" {
		argv = append([]string{"taskset", "-c", processors}, argv...)
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &process{Cmd: exec.CommandContext(ctx, argv[0], argv[1:]...)}
	p.Env = append(os.Environ(), "XDG_DATA_HOME="+r.folder, "XDG_CONFIG_HOME="+r.folder) // for Caddy
	p.Env = append(p.Env, b.environment...)
	p.Stdin, p.Stderr = strings.NewReader(input), os.Stderr
	p.Cancel = func() error { return p.Process.Signal(syscall.SIGTERM) }
	p.WaitDelay = patience
	r.ends = append(r.ends, func() {
		cancel()
		_ = p.Wait() // an error says that it was asked to end, or had ended before
	})
	if p.output, err = p.StdoutPipe(); err != nil {
		return nil, err
	}
	return p, p.Start()
}

// cpu is the processor time that all threads of the process have used, to the
// nanosecond. proc(5) counts in ticks of ten milliseconds.
func (p *process) cpu() (time.Duration, error) {
	// The clock of a process is its id and the kind of the clock, as
	// clock_getcpuclockid(3) makes it; 2 is CPUCLOCK_SCHED.
	id := int32(^p.Process.Pid)<<3 | 2
	var used unix.Timespec
	if err := unix.ClockGettime(id, &used); err != nil {
		return 0, fmt.Errorf("read the processor time of a process: %w", err)
	}
	return time.Duration(used.Nano()), nil
}

// memory is what the process has in memory now, in MiB (proc(5), status).
func (p *process) memory() (float64, error) {
	text := field(fmt.Sprintf("/proc/%d/status", p.Process.Pid), "VmRSS", ":")
	kib, err := strconv.ParseFloat(strings.TrimSuffix(text, " kB"), 64)
	if err != nil {
		return 0, errors.New("cannot read the memory of a process")
	}
	return kib / 1024, nil
}

// await returns when somebody listens on all the addresses.
func await(ctx context.Context, addresses ...string) error {
	end := time.Now().Add(patience)
	for _, address := range addresses {
		for {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				_ = conn.Close()
				break
			}
			if ctx.Err() != nil || time.Now().After(end) {
				return fmt.Errorf("nobody listens on %s: %w", address, err)
			}
			time.Sleep(20 * time.Millisecond)
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
