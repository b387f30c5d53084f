package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"time"

	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/open"
)

const (
	floodConnections = 64
	floodRate        = 4000 // bad credentials a second, in the slower floods
	// The server has a processor of its own, and so has the flood.
	serverProcessor = "0"
	floodProcessor  = "1"
)

// floodKind is a flood, and the client with a good key that is measured under it.
type floodKind struct {
	name   string
	server *process
	client target
	flood  *target // nil: the client is alone
}

// underFlood is what a client met.
type underFlood struct {
	result
	memory  float64 // of the server at the end, MiB
	refused float64 // per second
}

// flood measures a client with a good key, alone and under floods, in rounds that
// alternate.
func (r *run) flood(ctx context.Context) error {
	defer r.end()
	proxy := "reverse_proxy " + r.upstream()
	kinds, err := r.floods(ctx, proxy)
	if err != nil {
		return err
	}
	adopting, err := r.adoptionFloods(ctx, proxy)
	if err != nil {
		return err
	}
	kinds = append(kinds, adopting...)
	fmt.Printf("%s, %d processors, %s; %d rounds of %s; server on processor %s, %d connections of flood on %s, the client and its upstream on both\n\n",
		processor(), runtime.NumCPU(), runtime.Version(), r.rounds, r.length, serverProcessor, floodConnections, floodProcessor)
	results := make([][]underFlood, len(kinds))
	for range r.rounds {
		for i, k := range kinds {
			met, err := r.under(ctx, k)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			results[i] = append(results[i], met)
		}
	}
	printFloods(kinds, results)
	return nil
}

func printFloods(kinds []floodKind, results [][]underFlood) {
	fmt.Printf("%-46s %-22s %-22s %-22s %-16s %s\n", "flood", "p50, ms", "p99, ms", "p99 ÷ idle", "memory, MiB", "refusals per second")
	idle := 0
	for i, k := range kinds {
		if k.flood == nil {
			idle = i // of the same server as those that follow
		}
		column := func(format string, of func(r, idle underFlood) float64) string {
			var values []float64
			for n, r := range results[i] {
				values = append(values, of(r, results[idle][n]))
			}
			v := rowOf("", "", "", values)
			return fmt.Sprintf(format+" ("+format+" to "+format+")", v.Value, v.Low, v.High)
		}
		fmt.Printf("%-46s %-22s %-22s %-22s %-16s %s\n", k.name,
			column("%.2f", func(r, _ underFlood) float64 { return r.quantile(0.50) }),
			column("%.2f", func(r, _ underFlood) float64 { return r.quantile(0.99) }),
			column("%.1f", func(r, idle underFlood) float64 { return r.quantile(0.99) / idle.quantile(0.99) }),
			column("%.0f", func(r, _ underFlood) float64 { return r.memory }),
			column("%.0f", func(r, _ underFlood) float64 { return r.refused }))
	}
	fmt.Println("\nmedian (least to most) of the rounds; each is compared with the idle one of its own round and server")
}

// under has a client send while a flood lasts.
func (r *run) under(ctx context.Context, k floodKind) (met underFlood, err error) {
	wait := func() (int, error) { return 0, nil }
	if k.flood != nil {
		k.flood.Length = r.length + time.Second // it begins before the client and ends after it
		if wait, err = r.beginFlood(ctx, k.flood); err != nil {
			return met, err
		}
		time.Sleep(500 * time.Millisecond)
	}
	k.client.Length = r.length
	if met.result, err = k.client.load(ctx); err != nil {
		return met, err
	}
	if met.memory, err = k.server.memory(); err != nil {
		return met, err
	}
	answers, err := wait()
	met.refused = float64(answers) / (r.length + time.Second).Seconds()
	return met, err
}

// beginFlood starts a flood in a process of its own, and returns when it begins. The
// result waits for its end, and
// returns how many answers it got.
func (r *run) beginFlood(ctx context.Context, t *target) (wait func() (int, error), err error) {
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	p, err := r.start(ctx, build{}, floodProcessor, string(text), asFlood)
	if err != nil {
		return nil, err
	}
	var begins string
	if _, err := fmt.Fscan(p.output, &begins); err != nil {
		return nil, err
	}
	return func() (answers int, err error) {
		_, err = fmt.Fscan(p.output, &answers)
		if ended := p.Wait(); ended != nil {
			err = ended
		}
		return answers, err
	}, nil
}

// attack is a flood, in its process. It prints a word when it begins, and then how many
// answers it got.
func attack(input io.Reader, output io.Writer) error {
	var t target
	if err := json.NewDecoder(input).Decode(&t); err != nil {
		return err
	}
	fmt.Fprintln(output, "begins")
	met, err := t.load(context.Background())
	if err != nil {
		return fmt.Errorf("a bad credential is not refused: %w", err)
	}
	_, err = fmt.Fprintln(output, len(met.latencies))
	return err
}

// newFlood is a flood of some bad credentials, as fast as it can be. They may get 503
// while keys are searched for, and 429 beyond failure_limit.
func newFlood(address, path string, credentials []string) *target {
	t := &target{
		Address: address, Clients: floodConnections,
		Accepted: []int{http.StatusUnauthorized, http.StatusTooManyRequests},
	}
	for _, c := range credentials {
		t.Requests = append(t.Requests, request(http.MethodGet, address, path, "Bearer "+c, ""))
	}
	return t
}

// slowed is the same flood at [floodRate].
func slowed(t *target) *target {
	slow := *t
	slow.Pause = time.Second * floodConnections / floodRate
	return &slow
}

// newClient is one that waits between its requests: it is no flood of its own.
func newClient(address, key string) target {
	t := newSite("", address, "Bearer "+key, "").target
	t.Clients, t.Pause = 1, 500*time.Microsecond
	return t
}

// revokedKeys is how many revoked keys a flood has. Each is remembered for a moment, so
// one alone would ask the store for nothing.
const revokedKeys = 64

// floods are as fast as they can be, or at a rate; of a site that refuses without the
// plugin, which shows Caddy's own share; and of one with failure_limit.
func (r *run) floods(ctx context.Context, proxy string) ([]floodKind, error) {
	var good minted
	revoked := make([]string, revokedKeys)
	option, err := r.store(ctx, open.SQLite, func(keys *admin.Service) error {
		for i := range revoked {
			key, err := mint(ctx, keys, clientKey)
			if err == nil {
				_, err = keys.Revoke(ctx, admin.CLI(), key.id)
			}
			if err != nil {
				return err
			}
			revoked[i] = key.plain
		}
		var err error
		good, err = mint(ctx, keys, clientKey)
		return err
	})
	if err != nil {
		return nil, err
	}
	caddy := &caddyfile{options: []string{option}}
	auth := caddy.site("system_key_auth\n" + proxy)
	plane := caddy.site("system_keys_admin {\njwt {\nkey `" + publicKey + "`\nalgorithms EdDSA\nissuer https://issuer.example\naudience admin\n}\n}")
	limited := caddy.site("system_key_auth {\nfailure_limit 100 1m\n}\n" + proxy)
	refusing := caddy.site(`respond "no" 401`)
	server, err := r.caddy(ctx, caddy, serverProcessor)
	if err != nil {
		return nil, err
	}
	client := newClient(auth, good.plain)
	kinds := []floodKind{
		{"none", server, client, nil},
		{"(a) garbage", server, client, newFlood(auth, "/", credentials(garbage))},
		{"(b) unminted keys", server, client, newFlood(auth, "/", credentials(unminted))},
		{"(c) revoked keys", server, client, newFlood(auth, "/", revoked)},
		{"(d) wrong JWTs, admin plane", server, client, newFlood(plane, "/v1/admin/system-keys", credentials(wrongToken))},
		{"any, of a site without the plugin", server, client, newFlood(refusing, "/", credentials(unminted))},
	}
	for _, k := range kinds[1:5] {
		kinds = append(kinds, floodKind{fmt.Sprintf("%s, %d a second", k.name, floodRate), server, client, slowed(k.flood)})
	}
	limitedClient := newClient(limited, good.plain)
	return append(kinds,
		floodKind{"(b) unminted keys, failure_limit", server, limitedClient, newFlood(limited, "/", credentials(unminted))},
		floodKind{"(c) revoked keys, failure_limit", server, limitedClient, newFlood(limited, "/", revoked)}), nil
}

// publicKey is the public key for the tokens of people, that of RFC 8410 section 10.1.
// No token of this program fits it.
const publicKey = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----"

const (
	// foreignKeys is how many keys of another service nobody uses. Each string that was
	// not minted is tried against all of them.
	foreignKeys = 100
	// adoptedKey is a key of another service that is used.
	adoptedKey = "lm_sys_a-key.of_another~service"
)

// adoptionFloods are floods of unminted keys, at a server that searches for them.
func (r *run) adoptionFloods(ctx context.Context, proxy string) ([]floodKind, error) {
	var good minted
	option, err := r.store(ctx, open.SQLite, func(keys *admin.Service) (err error) {
		if good, err = mint(ctx, keys, clientKey); err == nil {
			err = insertForeign(ctx, keys)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	caddy := &caddyfile{options: []string{option, "secret a-secret-of-the-bench", "adopt_keys on"}}
	auth := caddy.site("system_key_auth\n" + proxy)
	server, err := r.caddy(ctx, caddy, serverProcessor)
	if err != nil {
		return nil, err
	}
	if err := letIn(auth, adoptedKey); err != nil {
		return nil, err
	}
	client, adopted := newClient(auth, good.plain), newClient(auth, adoptedKey)
	flood := newFlood(auth, "/", credentials(unminted))
	flood.Accepted = append(flood.Accepted, http.StatusServiceUnavailable) // while a string is not searched for
	kinds := []floodKind{
		{"none, adopt_keys", server, client, nil},
		{"(b) unminted keys, adopt_keys", server, client, flood},
		{"(b) unminted, adopt_keys, adopted client", server, adopted, flood},
		{fmt.Sprintf("(b) unminted, %d a second, adopt_keys", floodRate), server, client, slowed(flood)},
		{fmt.Sprintf("(b) %d a second, adopt_keys, adopted client", floodRate), server, adopted, slowed(flood)},
	}
	// Searches may spend more at first. Ten seconds are enough for a server on one
	// processor to spend that, so that what is measured is what goes on for ever. The
	// strings are others: whose they are is not known when they are measured.
	first := newFlood(auth, "/", credentials(unminted))
	first.Accepted, first.Length = flood.Accepted, 10*time.Second
	wait, err := r.beginFlood(ctx, first)
	if err == nil {
		_, err = wait()
	}
	return kinds, err
}

// insertForeign writes rows as another service does, at the default cost.
func insertForeign(ctx context.Context, keys *admin.Service) error {
	for i := range foreignKeys + 1 {
		key := adoptedKey
		if i > 0 {
			key = fmt.Sprintf("lm_sys_unused-%d", i)
		}
		hash, err := keys.Hash(ctx, key)
		if err != nil {
			return err
		}
		row := &store.Key{ID: store.ID(uuid.Must(uuid.NewV7())), Label: "theirs", Hash: hash, CreatedAt: time.Now(), CreatedBy: "bench", Foreign: true}
		if err := keys.Store.CreateKey(ctx, row, nil); err != nil {
			return err
		}
	}
	return nil
}

// credentials makes enough credentials that none comes back soon.
func credentials(newCredential func() string) []string {
	all := make([]string, 4096)
	for i := range all {
		all[i] = newCredential()
	}
	return all
}

// digits are the digits of a key.
const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// unminted is a key in form only.
func unminted() string { return token.Prefix + text(digits, token.Length-len(token.Prefix)) }

// garbage is a bearer token of no form, of the same length.
func garbage() string { return text("!#$%&'*+-.^_`|~"+digits, token.Length) }

// wrongToken is a person's token whose signature does not fit.
func wrongToken() string {
	segment := base64.RawURLEncoding.EncodeToString
	payload := fmt.Appendf(nil, `{"iss":"https://issuer.example","aud":"admin","sub":%q,"is_system":true,"exp":99999999999}`, text(digits, 8))
	return "lm_" + segment([]byte(`{"alg":"EdDSA","typ":"JWT"}`)) + "." + segment(payload) + "." + segment(random(ed25519.SignatureSize))
}

func text(alphabet string, n int) string {
	b := random(n)
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return string(b)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b
}
