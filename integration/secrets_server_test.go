package integration_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// asCaddy has this program be Caddy, in a process of its own, so that all that it
// writes can be read.
const asCaddy = "SYSTEM_KEYS_TEST_CADDY"

// program is this program without the race detector, under which each of the many commands
// would take most of a second to start.
func program(tb testing.TB) string {
	tb.Helper()
	file, err := unraced()
	if err != nil {
		tb.Fatal(err)
	}
	return file
}

var unraced = sync.OnceValues(func() (string, error) {
	file := filepath.Join(os.Getenv("XDG_DATA_HOME"), "unraced") // of TestMain, which removes it
	return file, testenv.Unraced(file)
})

func init() {
	caddy.RegisterModule(panicker{})
	httpcaddyfile.RegisterHandlerDirective("test_panic", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		return panicker{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_panic", httpcaddyfile.Before, "respond")
}

// panicker is a handler that panics with all it can reach of its request.
type panicker struct{}

func (panicker) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_panic", New: func() caddy.Module { return panicker{} }}
}

func (panicker) ServeHTTP(_ http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	panic(fmt.Sprintf("%+v %#v %v %v", r, r.Header, r.Context(), r.Context().Value(caddyhttp.VarsCtxKey)))
}

// product is a running server and everything that it has to keep to itself, and
// collects whatever it, its commands and its answers say.
type product struct {
	tb       testing.TB
	folder   string
	site     string // answers errors as JSON
	routed   string // answers them by error routes
	control  string // Caddy's admin endpoint
	config   string // the Caddyfile
	environ  []string
	postgres *testenv.Postgres
	process  *exec.Cmd
	keys     *admin.Service
	people   *plane.Issuer

	// live, revoked and root are keys; secrets are those, and all others, by name.
	live, revoked, root string
	liveID              string
	secrets             map[string]string

	mu    sync.Mutex
	wrote map[string][]byte // by who wrote it
}

func startProduct(t *testing.T) *product {
	t.Helper()
	p := &product{
		tb: t, folder: t.TempDir(), site: testenv.FreeAddress(t), routed: testenv.FreeAddress(t), control: testenv.FreeAddress(t),
		postgres: testenv.StartPostgres(t), people: plane.NewIssuer(t), wrote: make(map[string][]byte),
		secrets: map[string]string{"the DSN's password": rand.Text(), "the password of Redis": rand.Text(), "a secret": rand.Text()},
	}
	p.mintKeys(t)
	p.write("secret", p.secrets["a secret"])
	p.configure(t)
	p.start(t)
	return p
}

// dsn is that of the server of the tests, which asks for no password, with one.
func (p *product) dsn() string {
	dsn, err := url.Parse(p.postgres.Database())
	if err != nil {
		p.tb.Fatal(err)
	}
	dsn.User = url.UserPassword(dsn.User.Username(), p.secrets["the DSN's password"])
	return dsn.String()
}

func (p *product) mintKeys(t *testing.T) {
	t.Helper()
	dsn := p.dsn()
	b := postgresAt(dsn, "")
	p.keys = b.keys(t)
	root, rootKey, err := p.keys.Create(t.Context(), admin.CLI(), admin.NewKey{Label: "root", IsSystem: true})
	if err != nil {
		t.Fatal(err)
	}
	live, liveKey := mint(t, p.keys, "bot", "bots:read")
	gone, revoked := mint(t, p.keys, "gone")
	for name, key := range map[string]struct{ hash, plain string }{
		"the admin's": {string(root.Hash), rootKey}, "the bot's": {string(live.Hash), liveKey}, "the revoked": {string(gone.Hash), revoked},
	} {
		p.secrets[name+" key"] = key.plain
		p.secrets[name+" key's secret part"] = key.plain[29:72]
		p.secrets[name+" hash"] = key.hash
		p.secrets[name+" hash without parameters"] = key.hash[strings.LastIndex(key.hash, "$")+1:]
	}
	if _, err := p.keys.Revoke(t.Context(), admin.CLI(), gone.ID); err != nil {
		t.Fatal(err)
	}
	mintKey, err := p.keys.Store.MintKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.secrets["the mint key"] = string(mintKey[:])
	p.live, p.liveID, p.revoked, p.root = liveKey, live.ID.String(), revoked, rootKey

	redis, err := url.Parse(testenv.RedisURL(t))
	if err != nil {
		t.Fatal(err)
	}
	redis.User = url.UserPassword("", p.secrets["the password of Redis"])
	p.environ = append(os.Environ(), asCaddy+"=1", "XDG_DATA_HOME="+p.folder+"/data", "XDG_CONFIG_HOME="+p.folder+"/config",
		"DSN="+dsn, "REDIS="+redis.String())
}

// configure writes a Caddyfile that has all switched on that writes anything. Its
// log format is that of Caddyfile.example.
func (p *product) configure(t *testing.T) {
	t.Helper()
	const filter = `format redact_system_keys {
		wrap json
	}`
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.record("traces", body)
	}))
	t.Cleanup(collector.Close)
	p.environ = append(p.environ, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_BSP_SCHEDULE_DELAY=100")
	upstream := echo(t)
	const site = `
		log {
			%s
		}
		%s
		system_keys_admin {
			jwt {
				jwks %s
				algorithms EdDSA
				issuer https://lumio.example
				audience lumio-admin
			}
		}
		@strict path /strict
		system_key_auth @strict {
			require bots:write
		}
		system_key_auth {
			failure_limit 1000 1h
			%s
		}
		test_panic /panic
		reverse_proxy /down 127.0.0.1:1
		reverse_proxy %s`
	// The spans of Caddy have the path of a request, and so have assertions, which no
	// filter can change: the site with error routes has neither, and is where paths
	// with a key are asked for.
	traced := fmt.Sprintf(site, filter, "tracing {\nspan canary\n}", p.people.URL, "assertion lumio-api", upstream)
	untraced := fmt.Sprintf(site, filter, "", p.people.URL, "", upstream)
	p.config = p.write("Caddyfile", fmt.Sprintf(`{
		admin %s
		metrics
		log {
			level DEBUG
			%s
		}
		servers {
			trace
		}
		system_keys {
			store postgres {env.DSN}
			redis {env.REDIS}
			secret {file.%s/secret}
			last_used_interval 100ms
			audit_requests all
			%s
		}
	}
	http://%s {
		%s
	}
	http://%s {
		%s
		handle_errors {
			respond "{err.status_code} {err.status_text} {err.message} {err.id} {err.trace} {http.auth.user.id} {header.Authorization}"
		}
	}`, p.control, filter, p.folder, cheap, p.site, traced, p.routed, untraced))
}

func (p *product) write(name, content string) string {
	file := filepath.Join(p.folder, name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		p.tb.Fatal(err)
	}
	return file
}

func (p *product) start(t *testing.T) {
	t.Helper()
	p.process = p.command(context.WithoutCancel(t.Context()), "run", "--config", p.config)
	p.process.Stdout, p.process.Stderr = writer{p, "the server"}, writer{p, "the server"}
	if err := p.process.Start(); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		_ = p.process.Process.Signal(syscall.SIGTERM)
		_ = p.process.Wait()
	})
	t.Cleanup(stop)
	eventually(t, "the server serves", func() bool {
		response, err := http.Get("http://" + p.control + "/config/")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return p.call(http.MethodGet, p.site, "/", "Bearer "+p.live, "").Status == http.StatusOK
	})
}

func (p *product) stop() {
	_ = p.process.Process.Signal(syscall.SIGTERM)
	_ = p.process.Wait()
}
