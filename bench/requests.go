package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/crypto/bcrypt"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store/open"
)

// clients is how many connections send to a site at once.
const clients = 16

// posted is what a POST carries. With audit_requests each POST is an audit record.
const posted = `{"message":"hello"}`

// site is a site that is measured, with what each round gave.
type site struct {
	name string
	target
	// bare is the site on the same server that does nothing but hand the same request
	// on. It may be the site itself.
	bare *site
	// floor is the site that tells the upstream as much, and checks nothing; or nil.
	floor   *site
	results []result
}

// newSite is a site to which clients send a POST with a content, or else a GET.
func newSite(name, address, authorization, content string) *site {
	method := http.MethodGet
	if content != "" {
		method = http.MethodPost
	}
	return &site{name: name, target: target{
		Address: address, Requests: [][]byte{request(method, address, "/", authorization, content)}, Clients: clients, Accepted: []int{http.StatusOK},
	}}
}

// slice is how long a site is sent to before it is another's turn. So whatever else the
// machine has to do meets all sites alike.
const slice = 500 * time.Millisecond

// requests compares sites with and without the plugin, and with what else Caddy has.
// A round is made of slices of each site, in turns that begin with another site each
// time; the ratios are to the bare site of the same server in the same round.
func (r *run) requests(ctx context.Context) ([]row, error) {
	defer r.end()
	proxy := "reverse_proxy " + r.upstream()
	var all []*site
	for _, start := range []func(context.Context, string) ([]*site, error){r.onSQLite, r.onPostgres, r.withoutPlugin} {
		sites, err := start(ctx, proxy)
		if err != nil {
			return nil, err
		}
		all = append(all, sites...)
	}
	all[len(all)-1].bare = all[0] // the server without the plugin is compared with the one that has it
	if err := r.measureSites(ctx, all); err != nil {
		return nil, err
	}
	var rows []row
	for _, s := range all {
		rows = append(rows, s.rows()...)
	}
	return rows, nil
}

// measureSites adds the results of all rounds to the sites, after one slice to warm up.
func (r *run) measureSites(ctx context.Context, all []*site) error {
	turns := max(1, int(r.length/slice))
	for _, s := range all {
		s.Length = time.Second
		if _, err := s.load(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		s.Length = min(slice, r.length)
		s.results = make([]result, r.rounds)
	}
	for round := range r.rounds {
		r.progress("round %d of %d", round+1, r.rounds)
		for turn := range turns {
			for n := range all {
				s := all[(n+round+turn)%len(all)]
				part, err := s.load(ctx)
				if err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				s.results[round].add(part)
			}
		}
	}
	return nil
}

// onSQLite is everything that is compared on one server.
func (r *run) onSQLite(ctx context.Context, proxy string) ([]*site, error) {
	caddy, bearer, err := r.withKey(ctx, open.SQLite)
	if err != nil {
		return nil, err
	}
	const user, password, bcryptCost = "bench", "of-the-benchmarks-and-of-nobody-else", 14 // that of caddy hash-password
	hashed, err := bcrypt.GenerateFromPassword([]byte(password), bcryptCost)
	if err != nil {
		return nil, err
	}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	asked, service, err := r.service(ctx, bearer)
	if err != nil {
		return nil, err
	}
	bareAddress, guardedAddress := caddy.site(proxy), caddy.site("system_key_auth\n"+proxy)
	passing := caddy.site("system_key_auth {\npassthrough\n}\n" + proxy)
	bare := newSite("bare", bareAddress, bearer, "")
	guarded := newSite("system_key_auth", guardedAddress, bearer, "")
	guarded.floor = newSite("the same fields, no check", caddy.site("bench_fields\n"+proxy), bearer, "")
	passed, bareKeyless := newSite("passthrough, without a key", passing, "", ""), newSite("bare, without a key", bareAddress, "", "")
	passed.bare, bareKeyless.bare = bareKeyless, bareKeyless
	post, barePost := newSite("POST, system_key_auth", guardedAddress, bearer, posted), newSite("POST, bare", bareAddress, bearer, posted)
	post.bare, barePost.bare = barePost, barePost
	forward := newSite("forward_auth to a Go service", caddy.site(fmt.Sprintf("forward_auth %s {\nuri /\ncopy_headers X-User\n}\n%s", service, proxy)), bearer, "")
	forward.processes = []*process{asked}
	return r.serveSites(ctx, caddy, "SQLite: ", []*site{
		bare, guarded, guarded.floor,
		newSite("with assertion", caddy.site("system_key_auth {\nassertion bench\n}\n"+proxy), bearer, ""),
		newSite("with assertion, shared secret", caddy.site("system_key_auth {\nassertion bench {\nsecret 0123456789abcdef0123456789abcdef\n}\n}\n"+proxy), bearer, ""),
		newSite("with assertion, unbound", caddy.site("system_key_auth {\nassertion bench {\nunbound\n}\n}\n"+proxy), bearer, ""),
		newSite("passthrough, with a key", passing, bearer, ""),
		passed, bareKeyless, post, barePost,
		newSite("basic_auth, bcrypt, cached", caddy.site(fmt.Sprintf("basic_auth {\n%s %s\n}\n%s", user, hashed, proxy)), basic, ""),
		forward,
	})
}

// onPostgres is the check alone, on a server that has PostgreSQL and Redis.
func (r *run) onPostgres(ctx context.Context, proxy string) ([]*site, error) {
	caddy, bearer, err := r.withKey(ctx, open.Postgres)
	if err != nil {
		return nil, err
	}
	redis, err := r.redis()
	if err != nil {
		return nil, err
	}
	caddy.options = append(caddy.options, redis...)
	return r.serveSites(ctx, caddy, "PostgreSQL, Redis: ", []*site{
		newSite("bare", caddy.site(proxy), bearer, ""),
		newSite("system_key_auth", caddy.site("system_key_auth\n"+proxy), bearer, ""),
	})
}

// withoutPlugin is a Caddy that runs nothing of the plugin.
func (r *run) withoutPlugin(ctx context.Context, proxy string) ([]*site, error) {
	caddy := new(caddyfile)
	return r.serveSites(ctx, caddy, "without the plugin: ", []*site{
		newSite("bare", caddy.site(proxy), "Bearer "+strings.Repeat("x", token.Length), ""),
	})
}

// withKey is a Caddy on a store with one key, and the credential that a client has.
func (r *run) withKey(ctx context.Context, driver string) (_ *caddyfile, bearer string, err error) {
	option, err := r.store(ctx, driver, func(keys *admin.Service) error {
		key, err := mint(ctx, keys, clientKey)
		bearer = "Bearer " + key.plain
		return err
	})
	return &caddyfile{options: []string{option}}, bearer, err
}

// serveSites starts the Caddy of some sites, the bare one first.
func (r *run) serveSites(ctx context.Context, caddy *caddyfile, prefix string, sites []*site) ([]*site, error) {
	p, err := r.caddy(ctx, caddy, "")
	for _, s := range sites {
		s.name = prefix + s.name
		s.processes = append(s.processes, p)
		if s.bare == nil {
			s.bare = sites[0]
		}
	}
	return sites, err
}

// rows are those of one site.
func (s *site) rows() []row {
	against := func(other *site, what, unit string, of func(r, other result) float64) row {
		values := make([]float64, len(s.results))
		for round, r := range s.results {
			values[round] = of(r, other.results[round])
		}
		return rowOf(s.name, what, unit, values)
	}
	figure := func(what, unit string, of func(r, bare result) float64) row { return against(s.bare, what, unit, of) }
	rows := []row{
		figure("requests", "/s", func(r, _ result) float64 { return r.rate() }),
		figure("CPU per request", "µs", func(r, _ result) float64 { return r.cost() }),
		figure("p50", milliseconds, func(r, _ result) float64 { return r.quantile(0.50) }),
		figure("p99", milliseconds, func(r, _ result) float64 { return r.quantile(0.99) }),
	}
	if s == s.bare {
		return rows
	}
	costs := func(r, other result) float64 { return r.cost() / other.cost() }
	rows = append(rows,
		figure("requests ÷ bare", ratio, func(r, bare result) float64 { return r.rate() / bare.rate() }),
		figure("CPU per request ÷ bare", ratio, costs))
	if s.floor != nil {
		rows = append(rows, against(s.floor, "CPU per request ÷ the same fields", ratio, costs))
	}
	return rows
}

func init() {
	caddy.RegisterModule(fields{})
	httpcaddyfile.RegisterHandlerDirective("bench_fields", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return fields{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("bench_fields", httpcaddyfile.Before, "reverse_proxy")
}

// fields is the directive bench_fields. It does the least of any handler that tells the
// upstream who calls: it replaces Authorization by the four fields that
// system_key_auth sets, and checks nothing. Its cost is what the fields cost the proxy.
type fields struct{}

// CaddyModule implements [caddy.Module].
func (fields) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_fields", New: func() caddy.Module { return fields{} }}
}

// fieldValues are made once, so that setting them does not allocate.
var fieldValues = [4]struct {
	name   string
	values []string
}{
	{"X-Lumio-Auth-Type", []string{"system_key"}},
	{"X-Lumio-Key-Id", []string{"01890a5d-ac96-774b-bcce-b302099a8057"}},
	{"X-Lumio-Key-Label", []string{"bench"}},
	{"X-Lumio-Permissions", []string{"bots:read"}},
}

func (fields) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	delete(r.Header, "Authorization")
	for i := range fieldValues {
		r.Header[fieldValues[i].name] = fieldValues[i].values
	}
	return next.ServeHTTP(w, r)
}
