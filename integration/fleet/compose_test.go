package fleet_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// TestComposeRestartsWithoutAFailedRequest runs the services of deploy/compose.yaml,
// each as a process with the configuration that is mounted there, and restarts the
// sidecars one after the other under load.
func TestComposeRestartsWithoutAFailedRequest(t *testing.T) {
	t.Parallel()
	c := newComposition(t)
	sidecars := c.named("sidecar-")
	if len(sidecars) != 3 {
		t.Fatalf("the sidecars are %v", sidecars)
	}
	for _, name := range append([]string{"upstream"}, sidecars...) {
		c.start(name)
	}
	c.start("balancer")
	key := c.command("create", "--label", "bot", "--permission", "bots:read")

	clients := c.load(key)
	for round := range rounds() {
		for _, name := range sidecars {
			clients.more(t, 300)
			if c.accepted(name) == 0 {
				t.Errorf("round %d: %s has served nobody", round, name)
			}
			c.stop(name)
			clients.more(t, 300)
			c.start(name)
			eventually(t, name+" is in use again", func() bool { return c.accepted(name) > 0 })
		}
	}
	total, failures := clients.end()
	if len(failures) > 0 {
		t.Errorf("of %d requests some failed: %v", total, failures)
	}
	t.Logf("%d requests through the rolling restarts, %d failed", total, len(failures))
}

// composition is what compose.yaml describes, without containers: names of services
// are addresses on loopback, and what is mounted is in a folder.
type composition struct {
	t         *testing.T
	file      struct{ Services map[string]service }
	folder    string
	addresses map[string]string // by name of a service, and what it is for if not its site
	processes map[string]*exec.Cmd
}

type service struct {
	Volumes   []string
	StopGrace string `yaml:"stop_grace_period"`
}

func newComposition(t *testing.T) *composition {
	t.Helper()
	c := &composition{t: t, folder: t.TempDir(), addresses: make(map[string]string), processes: make(map[string]*exec.Cmd)}
	content, err := os.ReadFile("../../deploy/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(content, &c.file); err != nil {
		t.Fatal(err)
	}
	for name := range c.file.Services {
		c.addresses[name] = testenv.FreeAddress(t)
		c.addresses[name+" admin"] = testenv.FreeAddress(t)
		c.addresses[name+" metrics"] = testenv.FreeAddress(t)
	}
	redis, _, _ := strings.Cut(strings.TrimPrefix(testenv.RedisURL(t), "redis://"), "/")
	c.addresses["redis"] = redis
	for secret, value := range map[string]string{
		"database_url": testenv.StartPostgres(t).Database(), "system_keys_secret": "0123456789abcdef0123456789abcdef",
	} {
		if err := os.WriteFile(filepath.Join(c.folder, secret), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *composition) named(prefix string) []string {
	names := slices.Sorted(maps.Keys(c.file.Services))
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) })
}

// place is what is elsewhere without containers: services, at a port; what the own
// one listens on; and mounted secrets. It is looked for once, since the addresses in
// its place may begin like another one.
var place = regexp.MustCompile(`(?m)(sidecar-\d|upstream|redis):\d+|^:\d+ |127\.0\.0\.1:2019\b|/run/secrets/`)

// config writes the Caddyfile that is mounted into a service, with the addresses of
// this machine.
func (c *composition) config(name string) string {
	c.t.Helper()
	mounted, _, _ := strings.Cut(c.file.Services[name].Volumes[0], ":")
	content, err := os.ReadFile(filepath.Join("../../deploy", mounted))
	if err != nil {
		c.t.Fatal(err)
	}
	text := place.ReplaceAllStringFunc(string(content), func(found string) string {
		switch {
		case found == "/run/secrets/":
			return c.folder + "/"
		case found == "127.0.0.1:2019":
			return c.addresses[name+" admin"]
		case found == ":9180 ":
			return "http://" + c.addresses[name+" metrics"] + " "
		case strings.HasPrefix(found, ":"):
			return "http://" + c.addresses[name] + " "
		}
		other, _, _ := strings.Cut(found, ":")
		return c.addresses[other]
	})
	file := filepath.Join(c.folder, name+".Caddyfile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return file
}

func (c *composition) caddy(args ...string) *exec.Cmd {
	cmd := exec.Command(caddy, args...)
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+c.folder, "XDG_CONFIG_HOME="+c.folder)
	return cmd
}

// start runs a service, until it is healthy.
func (c *composition) start(name string) {
	c.t.Helper()
	cmd := c.caddy("run", "--config", c.config(name), "--adapter", "caddyfile")
	log, err := os.OpenFile(filepath.Join(c.folder, name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	_, known := c.processes[name]
	c.processes[name] = cmd
	if !known {
		c.t.Cleanup(func() {
			_ = c.processes[name].Process.Kill()
			_ = c.processes[name].Wait()
			if content, _ := os.ReadFile(log.Name()); c.t.Failed() {
				c.t.Logf("%s:\n%s", name, content[max(0, len(content)-4000):])
			}
		})
	}
	eventually(c.t, name+" is healthy", func() bool {
		response, err := client.Get("http://" + c.addresses[name] + "/healthz")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

// stop is what `docker compose stop` does.
func (c *composition) stop(name string) {
	c.t.Helper()
	grace, err := time.ParseDuration(c.file.Services[name].StopGrace)
	if err != nil {
		c.t.Fatal(err)
	}
	began := time.Now()
	_ = c.processes[name].Process.Signal(syscall.SIGTERM)
	killed := time.AfterFunc(grace, func() { _ = c.processes[name].Process.Kill() })
	defer killed.Stop()
	if err := c.processes[name].Wait(); err != nil {
		c.t.Errorf("%s has ended after %v: %v", name, time.Since(began), err)
	}
}

// command is one of `caddy system-keys` on the configuration of a sidecar.
func (c *composition) command(name string, args ...string) string {
	c.t.Helper()
	cmd := c.caddy(append([]string{"system-keys", name, "--config", c.config("sidecar-1")}, args...)...)
	var problem bytes.Buffer
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("%v\n%s", err, &problem)
	}
	return strings.TrimSpace(string(out))
}

var allowed = regexp.MustCompile(`(?m)^caddy_system_keys_decisions_total\{reason="key",result="allowed"\} ([0-9.e+]+)$`)

// accepted is how many requests a sidecar has let through, as it is scraped.
func (c *composition) accepted(name string) (n float64) {
	response, err := client.Get("http://" + c.addresses[name+" metrics"] + "/metrics")
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(response.Body)
	if found := allowed.FindSubmatch(body); found != nil {
		_, _ = fmt.Sscan(string(found[1]), &n)
	}
	return n
}

// throughput is clients of the balancer.
type throughput struct {
	cancel  context.CancelFunc
	clients sync.WaitGroup

	mu       sync.Mutex
	total    int
	failures map[string]int
}

// load has clients send, every second one what may not be sent twice.
func (c *composition) load(key string) *throughput {
	ctx, cancel := context.WithCancel(context.Background())
	l := &throughput{cancel: cancel, failures: make(map[string]int)}
	c.t.Cleanup(func() { _, _ = l.end() })
	for n := range 6 {
		l.clients.Go(func() {
			for ctx.Err() == nil {
				method, content := http.MethodGet, io.Reader(nil)
				if n%2 == 1 {
					method, content = http.MethodPost, strings.NewReader("content")
				}
				failure := send(method, "http://"+c.addresses["balancer"]+"/x", key, content)
				l.mu.Lock()
				if l.total++; failure != "" {
					l.failures[failure]++
				}
				l.mu.Unlock()
				time.Sleep(breath)
			}
		})
	}
	return l
}

func send(method, url, key string, content io.Reader) (failure string) {
	request, err := http.NewRequest(method, url, content)
	if err != nil {
		return err.Error()
	}
	request.Header.Set("Authorization", "Bearer "+key)
	response, err := client.Do(request)
	if err != nil {
		return method + ": " + err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if got := strings.TrimSpace(string(body)); err != nil || response.StatusCode != http.StatusOK || got != "system_key bot bots:read" {
		return fmt.Sprintf("%s: %d %s %v", method, response.StatusCode, got, err)
	}
	return ""
}

// more waits for some requests.
func (l *throughput) more(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.total
	}
	before := count()
	eventually(t, "requests are served", func() bool { return count() >= before+n })
}

func (l *throughput) end() (total int, failures map[string]int) {
	l.cancel()
	l.clients.Wait()
	return l.total, l.failures
}
