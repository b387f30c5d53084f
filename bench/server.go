package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// site is one of the sites of a server.
type site struct {
	name       string
	directives string
	url        string
}

// server is a Caddy in a process of its own, with a bare site and some with the
// plugin, in front of the same upstream.
type server struct {
	sites []site // the bare one first
	// addresses of an admin plane, of a site with failure_limit, and of one that
	// refuses everybody without the plugin
	admin, limited, refusing string

	key         string
	credentials *credentials
	process     *exec.Cmd
	stop        func()
}

// startServer runs it on the processors of a list (taskset(1)), or on all.
func startServer(ctx context.Context, processors string) (*server, error) {
	folder, err := os.MkdirTemp("", "caddy-system-keys-bench-")
	if err != nil {
		return nil, err
	}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("hello"))
	}))
	s := &server{
		sites: []site{
			{name: "bare reverse_proxy"},
			{name: "with system_key_auth", directives: "system_key_auth"},
			{name: "with assertion", directives: "system_key_auth {\nassertion bench\n}"},
			{name: "with assertion, unbound", directives: "system_key_auth {\nassertion bench {\nunbound\n}\n}"},
		},
		stop: func() {
			upstream.Close()
			_ = os.RemoveAll(folder)
		},
	}
	if err := s.start(ctx, folder, upstream.Listener.Addr().String(), processors); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *server) start(ctx context.Context, folder, upstream, processors string) error {
	store := filepath.Join(folder, "keys.db")
	config := filepath.Join(folder, "Caddyfile")
	var err error
	if s.credentials, err = newCredentials(ctx, store, filepath.Join(folder, "people.pem")); err != nil {
		return err
	}
	var caddyfile strings.Builder
	fmt.Fprintf(&caddyfile, `{
	admin off
	persist_config off
	log {
		level ERROR
	}
	system_keys {
		store sqlite %s
	}
}
`, store)
	var addresses []string
	serve := func(directives string) string {
		address := freeAddress()
		addresses = append(addresses, address)
		fmt.Fprintf(&caddyfile, "http://%s {\n%s\n}\n", address, directives)
		return address
	}
	proxy := "\nreverse_proxy " + upstream
	for i := range s.sites {
		s.sites[i].url = "http://" + serve(s.sites[i].directives+proxy) + "/"
	}
	s.admin = serve(fmt.Sprintf(`system_keys_admin {
		jwt {
			key {file.%s/people.pem}
			algorithms EdDSA
			issuer https://issuer.example
			audience admin
		}
	}`, folder))
	s.limited = serve("system_key_auth {\nfailure_limit 100 1m\n}" + proxy)
	s.refusing = serve(`respond "no" 401`)
	if err := os.WriteFile(config, []byte(caddyfile.String()), 0o600); err != nil {
		return err
	}
	create, err := caddy(ctx, folder, "system-keys", "create", "--label", "bench", "--permission", "bots:read", "--store", "sqlite://"+store)
	if err != nil {
		return err
	}
	key, err := create.Output()
	if err != nil {
		return err
	}
	s.key = string(bytes.TrimSpace(key))
	if s.process, err = caddy(ctx, folder, "run", "--config", config); err != nil {
		return err
	}
	s.process = on(ctx, processors, s.process)
	s.process.Stderr = os.Stderr
	if err := s.process.Start(); err != nil {
		return err
	}
	cleanUp := s.stop
	s.stop = func() {
		_ = s.process.Process.Signal(syscall.SIGTERM)
		_ = s.process.Wait()
		cleanUp()
	}
	return await(ctx, addresses...)
}

// on is a command that runs on some processors only.
func on(ctx context.Context, processors string, cmd *exec.Cmd) *exec.Cmd {
	if processors == "" {
		return cmd
	}
	pinned := exec.CommandContext(ctx, "taskset", append([]string{"-c", processors}, cmd.Args...)...)
	pinned.Env = cmd.Env
	return pinned
}

// address is that of the site with the plugin.
func (s *server) address() string {
	return strings.TrimSuffix(strings.TrimPrefix(s.sites[1].url, "http://"), "/")
}

// memory is what the server has in memory, in MiB (proc(5), status).
func (s *server) memory() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, errors.New("cannot read the server's memory")
	}
	kib, err := strconv.ParseFloat(fields[0], 64)
	return kib / 1024, err
}

// caddy is a command of this program as Caddy.
func caddy(ctx context.Context, folder string, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), asCaddy+"=1", "XDG_DATA_HOME="+folder, "XDG_CONFIG_HOME="+folder)
	return cmd, nil
}

func await(ctx context.Context, addresses ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
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
				return fmt.Errorf("caddy does not listen: %w", err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// cpu is the processor time that the server has used (proc(5), stat).
func (s *server) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, errors.New("cannot read the server's processor time")
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * (time.Second / 100), err // USER_HZ is 100 on Linux
}

func freeAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0"
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// processor names the machine.
func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}
