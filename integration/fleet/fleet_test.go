// Package fleet_test runs several servers on one database: processes of their
// own, each with a network between it and PostgreSQL that can be made to fail.
package fleet_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// caddy is the program, built once.
var caddy string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "caddy-fleet-")
	if err != nil {
		panic(err)
	}
	caddy = filepath.Join(folder, "caddy")
	build := exec.Command("go", "build", "-o", caddy, "../../cmd/caddy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(string(out))
	}
	status := m.Run()
	_ = os.RemoveAll(folder)
	os.Exit(status)
}

// fleet is some servers on one database.
type fleet struct {
	tb        testing.TB
	postgres  *testenv.Postgres
	patroni   *testenv.Patroni // in place of postgres
	dsn       string
	file      string // of SQLite, in place of PostgreSQL
	pooler    string // the address at which servers reach PostgreSQL, if it is another
	options   string
	keyAuth   string // more of the block of system_key_auth
	sites     string // more of them, on ADDRESS, which each server has of its own
	lease     time.Duration
	upstream  *upstream
	store     store.Store
	admin     *admin.Service
	adminKey  string
	instances []*instance
}

// newFleet starts n servers, which have their first lease.
func newFleet(t *testing.T, n int, lease time.Duration, options string) *fleet {
	t.Helper()
	f := emptyFleet(t, lease, options)
	for range n {
		f.start()
	}
	return f
}

// emptyFleet has a database, and no servers yet.
func emptyFleet(t *testing.T, lease time.Duration, options string) *fleet {
	t.Helper()
	f := &fleet{tb: t, postgres: testenv.StartPostgres(t), lease: lease, options: options, upstream: newUpstream(t)}
	f.dsn = f.postgres.Database()
	s, err := postgres.Open(t.Context(), f.dsn, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f.use(s)
	return f
}

// newEmbedded starts a server on SQLite.
func newEmbedded(t *testing.T, lease time.Duration) *fleet {
	t.Helper()
	f := &fleet{tb: t, file: filepath.Join(t.TempDir(), "system-keys.db"), lease: lease, upstream: newUpstream(t)}
	s, err := sqlite.Open(t.Context(), f.file, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f.use(s)
	f.start()
	return f
}

// use makes the admin plane of the test's own process, and a key for theirs.
func (f *fleet) use(s store.Store) {
	f.tb.Helper()
	f.tb.Cleanup(func() { _ = s.Close() })
	f.store = s
	if err := s.Migrate(f.tb.Context()); err != nil {
		f.tb.Fatal(err)
	}
	mintKey, err := s.MintKey(f.tb.Context())
	if err != nil {
		f.tb.Fatal(err)
	}
	f.admin = &admin.Service{
		Store:   s,
		Minter:  token.New(mintKey),
		Hash:    hashing.NewSlots(phc.Params{Memory: 7 << 10, Iterations: 1, Parallelism: 1}, 7<<20).Hash,
		Revoker: coherence.NewRevoker(s, time.Now, slog.New(slog.DiscardHandler)),
		Now:     time.Now,
	}
	_, f.adminKey = f.mint("admin", "admin:access", "system-keys:create", "system-keys:delete", "system-keys:read")
}

func (f *fleet) mint(label string, permissions ...string) (*store.Key, string) {
	f.tb.Helper()
	key, plain, err := f.admin.Create(context.Background(), admin.CLI(), admin.NewKey{Label: label, Permissions: permissions})
	if err != nil {
		f.tb.Fatal(err)
	}
	return key, plain
}

// grace is how long a server that is stopped waits for requests.
const grace = 2 * time.Second

// instance is one server.
type instance struct {
	fleet   *fleet
	name    string
	address string
	more    string        // ADDRESS of the fleet's other sites
	link    *testenv.Link // to PostgreSQL
	process *exec.Cmd
	ended   chan struct{} // closed when the process has ended
	log     string
	config  string
}

// start adds a server, and returns when it serves.
func (f *fleet) start() *instance {
	f.tb.Helper()
	folder := f.tb.TempDir()
	i := &instance{
		fleet: f, name: fmt.Sprintf("instance %d", len(f.instances)+1), address: testenv.FreeAddress(f.tb),
		log: filepath.Join(folder, "log"),
	}
	place := "sqlite " + f.file
	switch {
	case f.patroni != nil: // two addresses
		place = "postgres " + f.dsn
	case f.file == "":
		dsn, err := url.Parse(f.dsn)
		if err != nil {
			f.tb.Fatal(err)
		}
		i.link = testenv.Proxy(f.tb, cmp.Or(f.pooler, dsn.Host))
		dsn.Host = i.link.Addr()
		place = "postgres " + dsn.String()
	}
	caddyfile := fmt.Sprintf(`{
	admin off
	persist_config off
	skip_install_trust
	auto_https disable_redirects
	grace_period %v
	system_keys {
		store %s
		lease %v
		argon2id 7MiB 1 1
		%s
	}
}
http://%s {
	system_keys_admin
	system_key_auth {
		failure_limit 1000000 1s # refusals are counted, and none is late
		%s
	}
	reverse_proxy %s {
		flush_interval -1
		max_fails 1
		fail_duration 30s
	}
}
`, grace, place, f.lease, f.options, i.address, f.keyAuth, f.upstream.address)
	if f.sites != "" {
		i.more = testenv.FreeAddress(f.tb)
		caddyfile += strings.ReplaceAll(f.sites, "ADDRESS", i.more)
	}
	i.config = filepath.Join(folder, "Caddyfile")
	if err := os.WriteFile(i.config, []byte(caddyfile), 0o600); err != nil {
		f.tb.Fatal(err)
	}
	i.launch()
	f.tb.Cleanup(func() {
		i.signal(syscall.SIGCONT)
		i.signal(syscall.SIGTERM)
		select {
		case <-i.ended:
		case <-time.After(10 * time.Second):
			f.tb.Errorf("%s does not end:\n%s", i.name, i.tail())
			_ = i.process.Process.Kill()
			<-i.ended
		}
		if f.tb.Failed() {
			f.tb.Logf("%s:\n%s", i.name, i.tail())
		}
	})
	f.instances = append(f.instances, i)
	eventually(f.tb, i.name+" serves", func() bool {
		status, _ := i.get("/ok", f.adminKey)
		return status == http.StatusOK
	})
	return i
}

// launch starts the process of a server that has its configuration.
func (i *instance) launch() {
	tb, folder := i.fleet.tb, filepath.Dir(i.config)
	tb.Helper()
	log, err := os.OpenFile(i.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	process := exec.Command(caddy, "run", "--config", i.config, "--adapter", "caddyfile")
	process.Env = append(os.Environ(), "XDG_DATA_HOME="+folder, "XDG_CONFIG_HOME="+folder)
	process.Stdout, process.Stderr = log, log
	if err := process.Start(); err != nil {
		tb.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = process.Wait()
		close(ended)
	}()
	i.process, i.ended = process, ended
}

func (i *instance) signal(s syscall.Signal) { _ = i.process.Process.Signal(s) }

func (i *instance) tail() string {
	content, _ := os.ReadFile(i.log)
	return string(content[max(0, len(content)-4000):])
}

// client gives up after a while; a stopped process would hold it for ever.
var client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

func (i *instance) do(ctx context.Context, method, path, key string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+i.address+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+key)
	return client.Do(request)
}

// get returns the status, or 0 and what went wrong.
func (i *instance) get(path, key string) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	response, err := i.do(ctx, http.MethodGet, path, key)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(body)
}

// revoke deletes a key at the instance by REST. It returns the answer and how long
// it took.
func (i *instance) revoke(key *store.Key) (status int, body string, took time.Duration) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	response, err := i.do(ctx, http.MethodDelete, "/v1/admin/system-keys/"+key.ID.String(), i.fleet.adminKey)
	if err != nil {
		return 0, err.Error(), time.Since(began)
	}
	defer func() { _ = response.Body.Close() }()
	content, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(content), time.Since(began)
}

// eventually waits for something that takes a moment.
func eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if condition() {
			return
		}
	}
	tb.Fatalf("it did not come to this: %s", what)
}

// hang waits until the request is given up. A server of net/http notices that only when
// the body was read: one of HTTP/2 or 3 whose end came late is sent on with a body.
func hang(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// upstream is what the servers stand in front of.
type upstream struct {
	address string
	mux     *http.ServeMux
}

func newUpstream(tb testing.TB) *upstream {
	tb.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	mux.HandleFunc("/events", events)
	mux.HandleFunc("/download", download)
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { hang(r) })
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	mux.HandleFunc("/socket", socket)
	server := httptest.NewServer(mux)
	tb.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return &upstream{strings.TrimPrefix(server.URL, "http://"), mux}
}
