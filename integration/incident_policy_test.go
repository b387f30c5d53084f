package integration_test

import (
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
)

// strictSpellings are ways to write /strict/x that some server reads as that.
// plain says that decoding a path once and cleaning it is enough to do so.
var strictSpellings = []struct {
	target string
	plain  bool
}{
	{"/strict/x", true},
	{"/STRICT/x", true},
	{"/Strict/x", true},
	{"//strict/x", true},
	{"/strict//x", true},
	{"/./strict/x", true},
	{"/open/../strict/x", true},
	{"/open/./../strict/x", true},
	{"/open/..//strict/x", true},
	{"/../strict/x", true},
	{"/%73trict/x", true},
	{"/%53TRICT/x", true},
	{"/strict%2fx", true},
	{"/strict%2Fx", true},
	{"/open%2f..%2fstrict/x", true},
	{"/open/%2e%2e/strict/x", true},
	{"/open/.%2e/strict/x", true},
	{"/open/..%2fstrict%2fx", true},
	{"/strict/./x", true},
	{"/strict/y/../x", true},
	{"/strict/x?a=/open/", true},
	{"/strict/x?", true},
	{"http://HOST/strict/x", true},
	{"http://HOST//strict/x", true},
	{"/strict%252fx", false},
	{"/%2573trict/x", false},
	{`/strict\x`, false},
	{"/strict%5cx", false},
	{"/strict;a=b/x", false},
	{"/open/..;/strict/x", false},
	{"/strict%00/x", false},
	{"/strict%20/x", false},
}

// TestIncidentPathSpelling has a stricter block for a part of the site, and a key
// that is not good enough for it. Whatever is handed on must not be what the
// upstream would read as that part. Where a matcher decides, that holds for
// upstreams that read paths as Caddy does, decoded once and cleaned; where the
// whole site requires the permission, for all others too.
func TestIncidentPathSpelling(t *testing.T) {
	for name, test := range map[string]struct {
		site  string
		every bool
	}{
		"a part of the site": {"@strict path /strict /strict/*\nsystem_key_auth @strict {\nrequire bots:admin\n}\nsystem_key_auth", false},
		"the whole site":     {"system_key_auth {\nrequire bots:admin\n}", true},
	} {
		t.Run(name, func(t *testing.T) {
			b := onSQLite(t)
			keys := b.keys(t)
			_, reader := mint(t, keys, "reader", "bots:read")
			_, admin := mint(t, keys, "admin", "bots:admin")
			upstream := newRecorder(t)
			address := runForAnyHost(t, b, test.site+"\nreverse_proxy "+upstream.addr())
			for _, spelling := range strictSpellings {
				t.Run(spelling.target, func(t *testing.T) {
					target := strings.Replace(spelling.target, "HOST", address, 1)
					send := func(key string) int {
						return sendHTTP1(t, dial(t, address), "HTTP/1.1", exchange{
							method: "GET", path: target, fields: []field{{"Authorization", "Bearer " + key}},
						}).status
					}
					if status := send(reader); status == http.StatusOK {
						seen := (<-upstream.requests).line
						if test.every || spelling.plain || readsAsStrict(seen) {
							t.Errorf("the upstream received %q", seen)
						}
					} else if status != http.StatusForbidden && status != http.StatusBadRequest {
						t.Errorf("status %d", status)
					}
					upstream.nothing(t)
					// Nothing but the permission was in the way.
					if status := send(admin); status == http.StatusOK {
						<-upstream.requests
					} else if status != http.StatusBadRequest {
						t.Errorf("with the permission: status %d", status)
					}
				})
			}
		})
	}
}

// readsAsStrict reads the target of a request line as most servers do.
func readsAsStrict(line string) bool {
	fields := strings.Fields(line)
	u, err := url.ParseRequestURI(fields[1])
	if err != nil {
		return true
	}
	return strings.HasPrefix(strings.ToLower(path.Clean("/"+u.Path))+"/", "/strict/")
}

// TestIncidentCacheKeyConfusion warms everything that is remembered of keys, and
// then comes with what a lookup by a part of it would take for the same: another
// secret for the id, another key on the same route, the same key on another.
func TestIncidentCacheKeyConfusion(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			keys := b.keys(t)
			bot, botKey := mint(t, keys, "bot", "bots:read")
			other, otherKey := mint(t, keys, "other", "bots:write")
			address := run(t, b, `
				system_key_auth /write/* {
					require bots:write
				}
				system_key_auth /read/* {
					require bots:read
				}
				system_key_auth
				reverse_proxy `+echo(t))
			// Whoever reads the database has the mint key and every id.
			forged := keys.Minter.Mint(bot.ID, [32]byte{1})
			for range 3 {
				for _, c := range []struct {
					path, key string
					status    int
					id        string
				}{
					{"/", botKey, http.StatusOK, bot.ID.String()},
					{"/", otherKey, http.StatusOK, other.ID.String()},
					{"/", forged, http.StatusUnauthorized, ""},
					{"/read/", botKey, http.StatusOK, bot.ID.String()},
					{"/write/", botKey, http.StatusForbidden, ""},
					{"/write/", otherKey, http.StatusOK, other.ID.String()},
					{"/read/", otherKey, http.StatusForbidden, ""},
					{"/read/", forged, http.StatusUnauthorized, ""},
				} {
					status, _, body := get(t, "http://"+address+c.path, "Bearer "+c.key)
					if status != c.status || c.id != "" && !strings.Contains(body, "X-Lumio-Key-Id: "+c.id+"\r\n") {
						t.Errorf("%s got %d %s, want %d %s", c.path, status, body, c.status, c.id)
					}
				}
			}
			// A wrong secret does not push out what is known of the right one.
			if stats := app.Stats(); stats.Argon2Runs != 2 {
				t.Errorf("%d Argon2id computations for two keys", stats.Argon2Runs)
			}
		})
	}
}

// TestIncidentSingleFlightConfusion has clients with the right secret, with wrong
// ones for the same id, and with another key ask at once, of a server that knows
// nothing of them yet: nobody gets an answer that was worked out for somebody
// else. It does so in rounds, since it is chance whose request is the first.
func TestIncidentSingleFlightConfusion(t *testing.T) {
	const kinds = 5
	rounds := 3
	if soak() {
		rounds = 10
	}
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			keys := b.keys(t)
			// Hashes that are dear, so that all of them meet in one flight.
			keys.Hash = hashing.NewSlots(phc.Params{Memory: 16 << 10, Iterations: 2, Parallelism: 1}, 64<<20).Hash
			address := run(t, b, "system_key_auth\nreverse_proxy "+echo(t))
			for range rounds {
				bot, right := mint(t, keys, "bot")
				other, otherKey := mint(t, keys, "other")
				allAtOnce(t, address, []expected{
					{right, http.StatusOK, bot.ID.String()},
					{keys.Minter.Mint(bot.ID, [32]byte{1}), http.StatusUnauthorized, ""},
					{keys.Minter.Mint(bot.ID, [32]byte{2}), http.StatusUnauthorized, ""},
					{keys.Minter.Mint(bot.ID, [32]byte{3}), http.StatusUnauthorized, ""},
					{otherKey, http.StatusOK, other.ID.String()},
				})
			}
			if stats := app.Stats(); stats.Argon2Runs > uint64(rounds*kinds) {
				t.Errorf("%d Argon2id computations for %d different keys", stats.Argon2Runs, rounds*kinds)
			}
		})
	}
}

// expected is what a key is to get, and as whom.
type expected struct {
	key    string
	status int
	id     string
}

func allAtOnce(t *testing.T, address string, kinds []expected) {
	t.Helper()
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			kind := kinds[i%len(kinds)]
			<-start
			var status int
			var body string
			eventually(t, "the key is verified", func() bool { // 503: a busy machine computes too few hashes in two seconds
				status, _, body = get(t, "http://"+address, "Bearer "+kind.key)
				return status != http.StatusServiceUnavailable
			})
			if status != kind.status || kind.id != "" && !strings.Contains(body, "X-Lumio-Key-Id: "+kind.id+"\r\n") {
				t.Errorf("client %d got %d %s, want %d %s", i, status, body, kind.status, kind.id)
			}
		})
	}
	close(start)
	wg.Wait()
}
