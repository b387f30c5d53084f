package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// posted is what a POST carries, of which audit_requests makes a record.
const posted = `{"message":"hello"}`

// contender is a target of a server, with what it gave in each round.
type contender struct {
	target
	// bare is the site that does nothing but hand the same request on, on the same
	// server, or is the contender itself.
	bare *contender
	// floor is the site that tells the upstream as much, and checks nothing; or nil.
	floor   *contender
	results []result
}

// contest is a server with all its contenders, the bare one first.
type contest struct {
	prefix     string
	contenders []*contender
	stop       func()
}

// onSQLite is everything that is compared on one server.
func (r *run) onSQLite(ctx context.Context, upstream string) (_ *contest, err error) {
	where, err := r.sqlite()
	if err != nil {
		return nil, err
	}
	caddy, bearer, err := r.withKey(ctx, where)
	if err != nil {
		return nil, err
	}
	const user, password, bcryptCost = "bench", "of-the-benchmarks-and-of-nobody-else", 14 // that of caddy hash-password
	hashed, err := bcrypt.GenerateFromPassword([]byte(password), bcryptCost)
	if err != nil {
		return nil, err
	}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	asked, service, err := startService(ctx, bearer)
	if err != nil {
		return nil, err
	}
	proxy := "\nreverse_proxy " + upstream
	bare, guarded := caddy.site(proxy), caddy.site("system_key_auth"+proxy)
	passing := caddy.site("system_key_auth {\npassthrough\n}" + proxy)
	targets := []target{
		{name: "bare", address: bare, authorization: bearer},
		{name: "system_key_auth", address: guarded, authorization: bearer},
		{name: "the same fields, no check", address: caddy.site("bench_fields" + proxy), authorization: bearer},
		{name: "with assertion", address: caddy.site("system_key_auth {\nassertion bench\n}" + proxy), authorization: bearer},
		{name: "with assertion, unbound", address: caddy.site("system_key_auth {\nassertion bench {\nunbound\n}\n}" + proxy), authorization: bearer},
		{name: "passthrough, with a key", address: passing, authorization: bearer},
		{name: "passthrough, without a key", address: passing},
		{name: "bare, without a key", address: bare},
		{name: "POST, system_key_auth", address: guarded, authorization: bearer, content: posted},
		{name: "POST, bare", address: bare, authorization: bearer, content: posted},
		{name: "basic_auth, bcrypt, cached", address: caddy.site(fmt.Sprintf("basic_auth {\n%s %s\n}%s", user, hashed, proxy)), authorization: basic},
		{
			name: "forward_auth to a Go service", authorization: bearer, processes: []*process{asked},
			address: caddy.site(fmt.Sprintf("forward_auth %s {\nuri /\ncopy_headers X-User\n}%s", service, proxy)),
		},
	}
	c, err := caddy.contest(ctx, "SQLite: ", targets)
	if err != nil {
		asked.stop()
		return nil, err
	}
	c.compare("system_key_auth", "bare", "the same fields, no check")
	c.compare("passthrough, without a key", "bare, without a key", "")
	c.compare("bare, without a key", "bare, without a key", "")
	c.compare("POST, system_key_auth", "POST, bare", "")
	c.compare("POST, bare", "POST, bare", "")
	stop := c.stop
	c.stop = func() {
		stop()
		asked.stop()
	}
	return c, nil
}

// onPostgres is the check alone, on a server that has PostgreSQL and Redis.
func (r *run) onPostgres(ctx context.Context, upstream string) (*contest, error) {
	where, err := r.postgres(ctx)
	if err != nil {
		return nil, err
	}
	redis, err := r.redis()
	if err != nil {
		return nil, err
	}
	caddy, bearer, err := r.withKey(ctx, where)
	if err != nil {
		return nil, err
	}
	caddy.options = append(caddy.options, redis...)
	proxy := "\nreverse_proxy " + upstream
	return caddy.contest(ctx, "PostgreSQL, Redis: ", []target{
		{name: "bare", address: caddy.site(proxy), authorization: bearer},
		{name: "system_key_auth", address: caddy.site("system_key_auth" + proxy), authorization: bearer},
	})
}

// withKey is a Caddy on a store with one key, and the credential that a client has.
func (r *run) withKey(ctx context.Context, where *place) (_ *setup, bearer string, err error) {
	folder, err := r.newFolder()
	if err != nil {
		return nil, "", err
	}
	err = where.with(ctx, func(s store.Store) error {
		keys, err := mint(ctx, s, 1, phc.Default(), admin.NewKey{Label: "bench", Permissions: []string{"bots:read"}})
		if err == nil {
			bearer = "Bearer " + keys[0].plain
		}
		return err
	})
	return &setup{folder: folder, options: []string{where.option()}}, bearer, err
}

// alone is a Caddy that runs nothing of the plugin.
func (r *run) alone(ctx context.Context, upstream string) (*contest, error) {
	folder, err := r.newFolder()
	if err != nil {
		return nil, err
	}
	caddy := &setup{folder: folder}
	return caddy.contest(ctx, "without the plugin: ", []target{{name: "bare", address: caddy.site("reverse_proxy " + upstream), authorization: "Bearer " + strings.Repeat("x", token.Length)}})
}

// compare says what a contender is compared with: the bare site, and, if it is named,
// the floor.
func (c *contest) compare(name, bare, floor string) {
	one := c.named(name)
	one.bare = c.named(bare)
	if floor != "" {
		one.floor = c.named(floor)
	}
}

func (c *contest) named(name string) *contender {
	return c.contenders[slices.IndexFunc(c.contenders, func(other *contender) bool { return other.name == c.prefix+name })]
}

// contest starts the Caddy that has these sites.
func (s *setup) contest(ctx context.Context, prefix string, targets []target) (*contest, error) {
	p, err := s.start(ctx, "")
	if err != nil {
		return nil, err
	}
	c := &contest{prefix: prefix, stop: p.stop}
	for _, t := range targets {
		t.name = prefix + t.name
		t.processes = append(t.processes, p)
		c.contenders = append(c.contenders, &contender{target: t})
		c.contenders[len(c.contenders)-1].bare = c.contenders[0]
	}
	return c, nil
}
