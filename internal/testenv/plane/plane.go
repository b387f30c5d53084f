// Package plane gives tests an admin plane on a real store and engine, without Caddy,
// and people who call it. The people can also call the plane of a whole server.
package plane

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/admin/graphql"
	"github.com/lumio-vision/caddy-system-keys/admin/page"
	"github.com/lumio-vision/caddy-system-keys/internal/engine"
	"github.com/lumio-vision/caddy-system-keys/internal/jwtauth"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/internal/verify"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// Plane is an admin plane in front of an API, at two addresses: one that knows
// keys and tokens, and one that trusts the users of basic_auth.
type Plane struct {
	Keys     *admin.Service
	URL      string
	Trusting string
	Issuer   *Issuer
	API      *OpenAPI
}

// Password is that of ada, who is a system admin, and of bob, who may create keys for
// bots:read.
const Password = "correct horse battery staple"

var trusted = map[string]admin.Person{
	"ada": {ID: "ada", IsSystem: true},
	"bob": {ID: "bob", Permissions: []string{admin.PermissionCreate, "bots:read"}},
}

// Options are those of [New]. The zero value is a plane on SQLite.
type Options struct {
	// DSN is that of a PostgreSQL database. Empty for an SQLite file.
	DSN string
	// Lease is that of the engine. Zero for one that does not run out.
	Lease time.Duration
	// Hosts and Passthrough are settings of the admin plane.
	Hosts       []string
	Passthrough bool
	// Upstream gets what is not for the plane. Nil for one that answers "upstream".
	Upstream http.Handler
}

// Stores are the options of a plane on each store.
func Stores(tb testing.TB) map[string]Options {
	tb.Helper()
	return map[string]Options{"sqlite": {}, "postgres": {DSN: testenv.Database(tb)}}
}

// New runs a plane until the test ends.
func New(tb testing.TB, options Options) *Plane {
	tb.Helper()
	p := &Plane{Issuer: NewIssuer(tb), API: ReadOpenAPI(tb)}
	live := start(tb, &options)
	p.Keys = &admin.Service{
		Store: live.Store, Minter: live.Minter, Hash: live.Slots.Hash, Forget: live.Verifier.Forget,
		Revoker: live.Revoker, Sealer: live.Sealer, Now: time.Now,
	}
	tokens, err := jwtauth.New(jwtauth.Config{
		JWKS: p.Issuer.URL, Algorithms: []string{"EdDSA"}, Issuer: "https://lumio.example", Audience: "lumio-admin",
	})
	if err != nil {
		tb.Fatal(err)
	}
	admit := func(r *http.Request, key string) (store.ID, *verify.Identity, error) {
		return live.Verifier.Admit(r.Context(), key, clientOf(r), nil)
	}
	config := admin.Config{
		Service:    func(context.Context) (*admin.Service, error) { return p.Keys, nil },
		Identities: admin.Identities{Admit: admit, Token: tokens.Verify},
		Describe: func(r *http.Request) store.AuditRequest {
			return store.AuditRequest{ID: uuid.NewString(), Method: r.Method, Path: r.URL.EscapedPath(), ClientIP: clientOf(r)}
		},
		Denied: live.Audit.Deny, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
		AllowedHosts: options.Hosts, GraphQLPassthrough: options.Passthrough, Page: admin.DefaultPage,
	}
	p.URL = serve(tb, config, options.Upstream)
	config.Identities = admin.Identities{Admit: admit, Trusted: vouch}
	p.Trusting = serve(tb, config, options.Upstream)
	return p
}

// clientOf is the address of a client, which is 127.0.0.1 or ::1.
func clientOf(r *http.Request) string {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	return host
}

// start starts an engine on the store.
func start(tb testing.TB, options *Options) *engine.Live {
	tb.Helper()
	settings := engine.Settings{
		Argon2id: phc.Params{Memory: 64, Iterations: 1, Parallelism: 1}, HashMemory: 64 << 10,
		Lease: options.Lease, LastUsedInterval: time.Minute, AuditRetention: 24 * time.Hour, ExpiredRetention: 24 * time.Hour,
	}
	if settings.Lease == 0 {
		settings.Lease = store.MaxTTL
	}
	file := filepath.Join(tb.TempDir(), "keys.db")
	open := func(ctx context.Context) (store.Store, error) {
		if options.DSN != "" {
			return postgres.Open(ctx, options.DSN, postgres.Options{})
		}
		return sqlite.Open(ctx, file, sqlite.Options{})
	}
	e, err := engine.New(engine.Config{Settings: settings, Open: open, Embedded: true, Name: tb.Name()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = e.Close() })
	if err := e.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	live, err := e.Live()
	if err != nil {
		tb.Fatal(err)
	}
	return live
}

// vouch is basic_auth.
func vouch(r *http.Request) *admin.Person {
	name, password, _ := r.BasicAuth()
	person, known := trusted[name]
	if !known || password != Password {
		return nil
	}
	return &person
}

// serve gives the plane what is its own, and the upstream the rest. It returns the URL.
func serve(tb testing.TB, config admin.Config, upstream http.Handler) string {
	tb.Helper()
	if upstream == nil {
		upstream = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("upstream")) })
	}
	handler := admin.NewHandler(config, graphql.New(config), page.New(config))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !handler.Owns(r.URL.Path) {
			upstream.ServeHTTP(w, r)
			return
		}
		_ = handler.Serve(w, r, func(w http.ResponseWriter, r *http.Request) error {
			upstream.ServeHTTP(w, r)
			return nil
		})
	}))
	tb.Cleanup(server.Close)
	return server.URL
}

// Mint makes a key with these permissions, as the command line does.
func (p *Plane) Mint(tb testing.TB, label string, permissions ...string) (*store.Key, string) {
	tb.Helper()
	return p.create(tb, admin.NewKey{Label: label, Permissions: permissions})
}

// MintAdmin makes the key of a system admin.
func (p *Plane) MintAdmin(tb testing.TB) (*store.Key, string) {
	tb.Helper()
	return p.create(tb, admin.NewKey{Label: "Ada's laptop", IsSystem: true})
}

func (p *Plane) create(tb testing.TB, want admin.NewKey) (*store.Key, string) {
	tb.Helper()
	key, plain, err := p.Keys.Create(tb.Context(), admin.CLI(), want)
	if err != nil {
		tb.Fatal(err)
	}
	return key, plain
}

// Revoke revokes a key, and waits until no instance accepts it.
func (p *Plane) Revoke(tb testing.TB, key *store.Key) {
	tb.Helper()
	revocation, err := p.Keys.Revoke(tb.Context(), admin.CLI(), key.ID)
	if err == nil {
		_, err = revocation.Wait(tb.Context(), nil)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// Total is how many keys there are.
func (p *Plane) Total(tb testing.TB) int {
	tb.Helper()
	page, err := p.Keys.List(tb.Context(), admin.CLI(), &store.KeyQuery{Limit: 1, Sort: store.SortCreatedAt})
	if err != nil {
		tb.Fatal(err)
	}
	return page.Total
}
