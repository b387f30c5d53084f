package integration_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/jackc/pgx/v5"

	_ "github.com/lumio-vision/caddy-system-keys"
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

// There is one Caddy in a process, so the tests of this package that run one do
// not run in parallel.

// backend is a place for keys that a test may use: what the configuration says
// of it, and the rules of the admin plane on it, as another process has them.
type backend struct {
	name string
	// options are lines for the system_keys block.
	options string
	open    func(tb testing.TB) store.Store
	// owner is the DSN of PostgreSQL for the role that owns the tables. The server has
	// another one.
	owner string
}

// backends are the embedded default, and what a fleet runs on.
func backends(tb testing.TB) []*backend {
	tb.Helper()
	return []*backend{onSQLite(tb), onPostgres(tb)}
}

func onSQLite(tb testing.TB) *backend {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "system-keys.db")
	return &backend{
		name:    "sqlite",
		options: "store sqlite " + file,
		open: func(tb testing.TB) store.Store {
			tb.Helper()
			s, err := sqlite.Open(tb.Context(), file, sqlite.Options{})
			if err != nil {
				tb.Fatal(err)
			}
			return s
		},
	}
}

func onPostgres(tb testing.TB) *backend {
	tb.Helper()
	owner := testenv.Database(tb)
	b := postgresAt(forServer(tb, owner), "redis "+testenv.RedisURL(tb)+"\nsecret 0123456789abcdef0123456789abcdef")
	b.owner = owner
	return b
}

// forServer migrates a database, and returns the DSN of a role with exactly the rights that
// the command grants gives to a server.
func forServer(tb testing.TB, dsn string) string {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	u, err := url.Parse(dsn)
	if err != nil {
		tb.Fatal(err)
	}
	role := "server_of_" + strings.TrimPrefix(u.Path, "/")
	execute := func(statements ...string) {
		conn, err := pgx.Connect(ctx, dsn)
		if err == nil {
			_, err = conn.Exec(ctx, strings.Join(statements, "; "))
			err = errors.Join(err, conn.Close(ctx))
		}
		if err != nil {
			tb.Error(err)
		}
	}
	execute("CREATE ROLE " + role + " LOGIN")
	tb.Cleanup(func() { execute("DROP OWNED BY "+role, "DROP ROLE "+role) })
	owner, err := postgres.Open(ctx, dsn, postgres.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = owner.Close() }()
	if err := owner.Migrate(ctx); err != nil {
		tb.Fatal(err)
	}
	grants, err := owner.Grants(ctx, role, postgres.ForServer)
	if err != nil {
		tb.Fatal(err)
	}
	execute(grants...)
	u.User = url.User(role)
	return u.String()
}

// onPrivatePostgres is on a server that the test may stop and kill.
func onPrivatePostgres(tb testing.TB) (*backend, *testenv.Postgres) {
	tb.Helper()
	server := testenv.StartPostgres(tb)
	return postgresAt(server.Database(), ""), server
}

func postgresAt(dsn, options string) *backend {
	return &backend{
		name:    "postgres and redis",
		options: "store postgres " + dsn + "\n" + options,
		owner:   dsn,
		open: func(tb testing.TB) store.Store {
			tb.Helper()
			s, err := postgres.Open(tb.Context(), dsn, postgres.Options{})
			if err != nil {
				tb.Fatal(err)
			}
			return s
		},
	}
}

// keys opens the store beside the server, as the command line does.
func (b *backend) keys(tb testing.TB) *admin.Service {
	tb.Helper()
	s := b.open(tb)
	tb.Cleanup(func() { _ = s.Close() })
	if err := s.Migrate(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	mintKey, err := s.MintKey(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return &admin.Service{
		Store:   s,
		Minter:  token.New(mintKey),
		Hash:    hashing.NewSlots(phc.Params{Memory: 7 << 10, Iterations: 1, Parallelism: 1}, 7<<20).Hash,
		Revoker: coherence.NewRevoker(s, time.Now, slog.New(slog.DiscardHandler)),
		Now:     time.Now,
	}
}

// mint makes a key with these permissions.
func mint(tb testing.TB, keys *admin.Service, label string, permissions ...string) (*store.Key, string) {
	tb.Helper()
	key, plain, err := keys.Create(tb.Context(), admin.CLI(), admin.NewKey{Label: label, Permissions: permissions})
	if err != nil {
		tb.Fatal(err)
	}
	return key, plain
}

// cheap are options that make a test's own hashes cheap.
const cheap = "argon2id 7MiB 1 1\n"

// run starts a Caddy with a site on a free port, and stops it with the test. It
// returns the site's address.
func run(tb testing.TB, b *backend, site string) string {
	tb.Helper()
	address := testenv.FreeAddress(tb)
	load(tb, globals(b.options+"\n"+cheap)+fmt.Sprintf("http://%s {\n%s\n}\n", address, site))
	return address
}

// globals is the block of global options of every test.
func globals(options string) string {
	return fmt.Sprintf(`{
		admin off
		persist_config off
		skip_install_trust
		grace_period 1s
		log {
			output discard
		}
		system_keys {
			%s
		}
	}
	`, options)
}

// load runs a Caddyfile in place of the configuration before, if there is one.
func load(tb testing.TB, caddyfile string) {
	tb.Helper()
	loadJSON(tb, adapt(tb, caddyfile))
}

func loadJSON(tb testing.TB, config []byte) {
	tb.Helper()
	if err := tryLoad(tb, config); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			tb.Error(err)
		}
	})
}

// tryLoad returns what Caddy has against a configuration, or runs it.
func tryLoad(tb testing.TB, config []byte) error {
	tb.Helper()
	err := caddy.Load(config, true)
	awaitOneListener(tb, config)
	return err
}

func adapt(tb testing.TB, caddyfile string) []byte {
	tb.Helper()
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		tb.Fatalf("%v in\n%s", err, caddyfile)
	}
	for _, w := range warnings {
		if w.Message != "" && w.Directive != "" {
			tb.Logf("adapt: %s", w)
		}
	}
	return config
}

// echo is an upstream that answers with the header it received, one field a
// line. It returns its address.
func echo(tb testing.TB) string {
	tb.Helper()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.Header.Write(w)
	}))
	tb.Cleanup(upstream.Close)
	return upstream.Listener.Addr().String()
}

// get makes one request with a client of its own and returns the answer.
func get(tb testing.TB, url, authorization string) (status int, header http.Header, body string) {
	tb.Helper()
	return do(tb, http.MethodGet, url, authorization, nil)
}

func do(tb testing.TB, method, url, authorization string, content io.Reader) (int, http.Header, string) {
	tb.Helper()
	status, header, body, err := try(tb, method, url, authorization, content)
	if err != nil {
		tb.Fatal(err)
	}
	return status, header, body
}

// try is do for a request that may be cut: then its connection may be closed
// before anything was sent.
func try(tb testing.TB, method, url, authorization string, content io.Reader) (int, http.Header, string, error) {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), method, url, content)
	if err != nil {
		tb.Fatal(err)
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	if content != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return 0, nil, "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, response.Header, string(body), err
}

// soak reports whether the long tests are to run at their full counts.
func soak() bool { return os.Getenv("SOAK") != "" }

// TestMain keeps what Caddy writes out of the user's folders.
func TestMain(m *testing.M) {
	if os.Getenv(asCaddy) != "" {
		caddycmd.Main()
		return
	}
	home, err := os.MkdirTemp("", "caddy-home-")
	if err != nil {
		slog.Error("no folder for Caddy", slog.Any("error", err))
		os.Exit(1)
	}
	_ = os.Setenv("XDG_DATA_HOME", home)
	_ = os.Setenv("XDG_CONFIG_HOME", home)
	flag.Parse()
	if flag.Lookup("test.run").Value.String()+flag.Lookup("test.list").Value.String() == "" {
		go func() { _, _ = unraced() }() // takes up to a minute, and the first tests do not need it
	}
	status := m.Run()
	endChromium()
	_ = os.RemoveAll(home)
	os.Exit(status)
}
