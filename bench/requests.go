package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store/open"
)

const (
	// clients is how many connections send to a site at once.
	clients = 16
	// slice is how long a site is sent to before it is another's turn. So whatever else
	// the machine has to do meets all sites alike.
	slice = 25 * time.Millisecond
	// warmUp is how long a site is sent to before it is measured.
	warmUp = 500 * time.Millisecond
	// unlimited has a site answer any number of bad credentials at once.
	unlimited = "failure_limit 1000000 1s"
	// theFields tell the upstream as much as system_key_auth does, by Caddy's own means.
	theFields = `request_header -Authorization
request_header X-Lumio-Auth-Type system_key
request_header X-Lumio-Key-Id 01890a5d-ac96-774b-bcce-b302099a8057
request_header X-Lumio-Key-Label bench
request_header X-Lumio-Permissions bots:read
`
	// theAnswer is the answer to a bad key, by Caddy's own means.
	theAnswer = `header WWW-Authenticate "Bearer realm=\"lumio\", error=\"invalid_token\""
header Content-Type application/json
header Cache-Control no-store
respond "\{\"error\":\{\"code\":\"invalid_token\",\"message\":\"the system key is not valid\",\"status\":401,\"request_id\":\"{http.request.uuid}\"\}\}" 401
`
)

// site is a site that is measured, with what each slice or run gave.
type site struct {
	name string
	target
	against []*site // what it is compared with
	results []result
}

// newSite is a site to which clients send a POST with a content, or else a GET.
func newSite(name, address, authorization, content string, against ...*site) *site {
	method := http.MethodGet
	if content != "" {
		method = http.MethodPost
	}
	return &site{name: name, against: against, target: target{
		Address: address, Requests: [][]byte{request(method, address, "/", authorization, content)}, Clients: clients, Accepted: []int{http.StatusOK},
	}}
}

// requests compares sites of one server: with and without the plugin, and with what
// else Caddy has. Each turn is a slice of each site, in random order.
func (r *run) requests(ctx context.Context) ([]row, error) {
	defer r.end()
	caddy, bearer, err := r.withKey(ctx)
	if err != nil {
		return nil, err
	}
	sites, err := r.sites(ctx, caddy, bearer)
	if err != nil {
		return nil, err
	}
	if sites = chosen(sites, r.only); len(sites) == 0 {
		return nil, errors.New("no site has a name of -only")
	}
	if err := r.serveWarm(ctx, caddy, sites...); err != nil {
		return nil, err
	}
	if err := r.inTurns(ctx, sites, r.slices); err != nil {
		return nil, err
	}
	return rowsOf(sites), nil
}

// chosen keeps the sites of a list of names, and what they are compared with. Without a list
// it keeps all.
func chosen(sites []*site, names string) []*site {
	if names == "" {
		return sites
	}
	keep := make(map[*site]bool)
	for _, s := range sites {
		if slices.Contains(strings.Split(names, ";"), s.name) {
			keep[s] = true
			for _, other := range s.against {
				keep[other] = true
			}
		}
	}
	return slices.DeleteFunc(sites, func(s *site) bool { return !keep[s] })
}

// serveWarm starts the Caddy of some sites, and sends to each until it is warm.
func (r *run) serveWarm(ctx context.Context, caddy *caddyfile, sites ...*site) error {
	p, err := r.caddy(ctx, caddy, "")
	if err != nil {
		return err
	}
	for _, s := range sites {
		s.processes, s.Length = append(s.processes, p), warmUp
		if _, err := s.load(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// inTurns adds the results of so many turns to the sites.
func (r *run) inTurns(ctx context.Context, sites []*site, turns int) error {
	for _, s := range sites {
		if err := s.connect(); err != nil {
			return err
		}
		defer s.disconnect()
		s.Length = slice
	}
	for turn := range turns {
		if turn%50 == 0 {
			r.progress("turn %d of %d", turn+1, turns)
		}
		for _, n := range rand.Perm(len(sites)) {
			met, err := sites[n].load(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", sites[n].name, err)
			}
			sites[n].results = append(sites[n].results, met)
		}
	}
	return nil
}

// sites are what is compared.
func (r *run) sites(ctx context.Context, caddy *caddyfile, bearer string) ([]*site, error) {
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
	proxy := "reverse_proxy " + r.upstream()
	guard := func(options string) string {
		return caddy.site("system_key_auth {\n" + options + "\n" + unlimited + "\n}\n" + proxy)
	}
	bareAddress, passing := caddy.site(proxy), guard("passthrough")
	bare := newSite("bare", bareAddress, bearer, "")
	fields := newSite("the four fields alone", caddy.site(theFields+proxy), bearer, "", bare)
	keyless := newSite("bare, without a key", bareAddress, "", "")
	respond := newSite("respond 401", caddy.site("respond 401"), "Bearer "+unminted(), "")
	answer := newSite("the same answer alone", caddy.site(theAnswer), "Bearer "+unminted(), "", respond)
	refusal := newSite("a refusal", guard(""), "Bearer "+unminted(), "", respond, answer)
	for _, s := range []*site{respond, answer, refusal} {
		s.Accepted = []int{http.StatusUnauthorized}
	}
	forward := newSite("forward_auth to a Go service", caddy.site(fmt.Sprintf("forward_auth %s {\nuri /\ncopy_headers X-User\n}\n%s", service, proxy)), bearer, "", bare)
	forward.processes = []*process{asked}
	sites := []*site{bare, fields, keyless, respond, answer, refusal, forward}
	// Each variant of system_key_auth is a line.
	for _, with := range []struct{ name, options string }{
		{"system_key_auth", ""},
		{"with assertion", "assertion bench"},
		{"with assertion, shared secret", "assertion bench {\nsecret 0123456789abcdef0123456789abcdef\n}"},
		{"with assertion, unbound", "assertion bench {\nunbound\n}"},
	} {
		sites = append(sites, newSite(with.name, guard(with.options), bearer, "", bare, fields))
	}
	return append(sites,
		newSite("passthrough, with a key", passing, bearer, "", bare, fields),
		newSite("passthrough, without a key", passing, "", "", keyless),
		newSite("basic_auth, bcrypt, cached", caddy.site(fmt.Sprintf("basic_auth {\n%s %s\n}\n%s", user, hashed, proxy)), basic, "", bare)), nil
}

// withKey is a Caddy on a store with one key, and the credential that a client has.
func (r *run) withKey(ctx context.Context) (_ *caddyfile, bearer string, err error) {
	option, err := r.store(ctx, open.SQLite, func(keys *admin.Service) error {
		key, err := mint(ctx, keys, clientKey)
		bearer = "Bearer " + key.plain
		return err
	})
	return &caddyfile{options: []string{option}}, bearer, err
}

// rowsOf are the figures of sites that had as many slices or runs each, in turns.
func rowsOf(sites []*site) (rows []row) {
	for _, s := range sites {
		rate, cost := s.each(result.rate), s.each(result.cost)
		rows = append(rows, meanOf(s.name, "requests", "/s", rate), meanOf(s.name, "CPU per request", "µs", cost))
		for _, other := range s.against {
			rows = append(rows,
				ratioOf(s.name, "requests ÷ "+other.name, rate, other.each(result.rate)),
				ratioOf(s.name, "CPU per request ÷ "+other.name, cost, other.each(result.cost)))
		}
	}
	return rows
}

func (s *site) each(of func(result) float64) []float64 {
	values := make([]float64, len(s.results))
	for i, r := range s.results {
		values[i] = of(r)
	}
	return values
}
