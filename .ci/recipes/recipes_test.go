// Package recipes_test plays the recipes of docs/recipes.md that need other plugins, as they
// stand there but for the address of the API.
package recipes_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	_ "github.com/caddyserver/cache-handler"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/mholt/caddy-ratelimit"

	_ "github.com/lumio-vision/caddy-system-keys"
	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/hashing"
	"github.com/lumio-vision/caddy-system-keys/internal/phc"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/internal/token"
	"github.com/lumio-vision/caddy-system-keys/store/sqlite"
)

// TestALimitForEachKey uses up the limit of one key.
func TestALimitForEachKey(t *testing.T) {
	s := newSite(t, recipe(t, "A limit for each key"))
	one, two := s.mint("one"), s.mint("two")
	for n := range 600 {
		if status, body := s.get(one); status != http.StatusOK || body != "one" {
			t.Fatalf("request %d: %d %s", n, status, body)
		}
	}
	if status, _ := s.get(one); status != http.StatusTooManyRequests {
		t.Errorf("beyond its limit a key gets %d", status)
	}
	if status, body := s.get(two); status != http.StatusOK || body != "two" {
		t.Errorf("another key gets %d %s", status, body)
	}
	if status, _ := s.get(two + "x"); status != http.StatusUnauthorized {
		t.Errorf("a bad key gets %d", status)
	}
}

// TestACacheBehindTheGate also shows what happens without the lines of the recipe.
func TestACacheBehindTheGate(t *testing.T) {
	lines := recipe(t, "A cache between Caddy and the API")
	keyed := regexp.MustCompile(`(?s)cache \{.*?\n\t\}`)
	if !keyed.MatchString(lines) {
		t.Fatalf("it has no cache:\n%s", lines)
	}
	for name, test := range map[string]struct{ lines, second string }{
		"as it stands":      {lines, "two"},
		"keyed by URL only": {keyed.ReplaceAllString(lines, "cache"), "one"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, test.lines)
			one, two := s.mint("one"), s.mint("two")
			for n, want := range []struct{ key, body string }{{one, "one"}, {one, "one"}, {two, test.second}, {two, test.second}, {one, "one"}} {
				if status, body := s.get(want.key); status != http.StatusOK || body != want.body {
					t.Errorf("answer %d: %d %q, want %q", n, status, body, want.body)
				}
			}
			if s.asked >= 5 {
				t.Errorf("the API was asked %d times: nothing came from the cache", s.asked)
			}
			if status, _ := s.get(one + "x"); status != http.StatusUnauthorized {
				t.Errorf("a bad key gets %d", status)
			}
		})
	}
}

// recipe returns the lines of the first indented block with a route under a heading.
func recipe(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/recipes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	block := regexp.MustCompile(`(?m)^    route \{\n(?:    .*\n)+`).FindString(section)
	if !strings.Contains(block, "lumio-api:8000") {
		t.Fatalf("there are no lines under %q", heading)
	}
	return strings.ReplaceAll(block, "\n    ", "\n")
}

// site is a Caddy in front of an API that answers with the label of the key.
type site struct {
	t     *testing.T
	url   string
	admin *admin.Service
	asked int // how often the API was, by one request at a time
}

func newSite(t *testing.T, lines string) *site {
	t.Helper()
	s := &site{t: t}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked++
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, r.Header.Get("X-Lumio-Key-Label"))
	}))
	t.Cleanup(api.Close)
	file, address := filepath.Join(t.TempDir(), "keys.db"), testenv.FreeAddress(t)
	s.url = "http://" + address + "/" + t.Name() // caches outlive a site
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(fmt.Appendf(nil, "{\nadmin off\npersist_config off\nlog {\noutput discard\n}\nsystem_keys {\nstore sqlite %s\n}\n}\nhttp://%s {\n%s}\n",
		file, address, strings.ReplaceAll(lines, "lumio-api:8000", api.Listener.Addr().String())), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	keys, err := sqlite.Open(t.Context(), file, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	mintKey, err := keys.MintKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	params := phc.Params{Memory: 7 << 10, Iterations: 1, Parallelism: 1}
	s.admin = &admin.Service{Store: keys, Minter: token.New(mintKey), Hash: hashing.NewSlots(params, 7<<20).Hash, Now: time.Now}
	return s
}

// mint makes a key without permissions.
func (s *site) mint(label string) string {
	s.t.Helper()
	_, key, err := s.admin.Create(s.t.Context(), admin.CLI(), admin.NewKey{Label: label})
	if err != nil {
		s.t.Fatal(err)
	}
	return key
}

// get returns what one request with the key gets.
func (s *site) get(key string) (status int, body string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}
