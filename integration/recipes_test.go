package integration_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestRecipes runs the sites of docs/recipes.md as they stand there, but for the addresses.
func TestRecipes(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	_, none := mint(t, keys, "none")
	_, some := mint(t, keys, "some", "metrics:read", "api:access", "bots:read")
	_, all := mint(t, keys, "all", "metrics:read", "api:access", "bots:read", "billing:read")
	sso := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cookie") != "session=good" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Remote-User", "alice")
	}))
	t.Cleanup(sso.Close)
	upstream := echo(t)

	type request struct {
		method, path, key string
		headers           string // of lines
		want              int
		sees              string // what the API gets of the caller: "label user"
	}
	const ok, made = http.StatusOK, http.StatusNoContent
	const unauthorized, forbidden = http.StatusUnauthorized, http.StatusForbidden
	forged := "X-Lumio-Key-Label: forged\nRemote-User: forged"
	asks := "Origin: https://app.example.com\nAccess-Control-Request-Method: GET"
	for heading, requests := range map[string][]request{
		"Open paths": {
			{path: "/healthz", headers: forged, want: ok, sees: " forged"},
			{path: "/public/a", key: all, want: ok, sees: "all "},
			{path: "/public/a", key: all + "x", want: unauthorized},
			{path: "/bots", headers: forged, want: unauthorized},
			{path: "/bots", key: none, headers: forged, want: ok, sees: "none forged"},
			{path: "/metrics", want: unauthorized},
			{path: "/metrics", key: none, want: forbidden},
			{path: "/metrics", key: some, want: ok},
		},
		"CORS preflight": {
			{method: "OPTIONS", path: "/bots", headers: asks, want: made},
			{method: "OPTIONS", path: "/bots", headers: asks, key: all + "x", want: unauthorized},
			{method: "OPTIONS", path: "/bots", want: unauthorized},
			{path: "/bots", headers: asks, want: unauthorized},
			{path: "/bots", headers: asks, key: all, want: ok, sees: "all "},
		},
		"Paths": {
			{path: "/bots", key: none, want: forbidden},
			{path: "/bots", key: some, want: ok, sees: "some "},
			{path: "/billing/1", key: some, want: forbidden},
			{path: "/BILLING", key: some, want: forbidden},
			{path: "/a/..//billing/1", key: some, want: forbidden},
			{path: "/billing/1", key: all, want: ok, sees: "all "},
		},
		"Methods": {
			{path: "/bots", key: some, want: ok, sees: "some "},
			{method: "PATCH", path: "/bots", key: some, want: forbidden},
			{path: "/bots", key: none, want: forbidden},
		},
		"People or keys": {
			{path: "/bots", headers: forged, want: unauthorized},
			{path: "/bots", headers: forged + "\nCookie: session=good", want: ok, sees: " alice"},
			{path: "/bots", key: some, headers: forged, want: ok, sees: "some "},
			{path: "/bots", key: some + "x", headers: "Cookie: session=good", want: unauthorized},
		},
	} {
		t.Run(heading, func(t *testing.T) {
			site := strings.NewReplacer("lumio-api:8000", upstream, "sso.internal:9091", sso.Listener.Addr().String()).Replace(recipe(t, heading))
			url := "http://" + run(t, b, site)
			for _, r := range requests {
				if r.method == "" {
					r.method = http.MethodGet
				}
				sent, err := http.NewRequestWithContext(t.Context(), r.method, url+r.path, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				if r.key != "" {
					sent.Header.Set("Authorization", "Bearer "+r.key)
				}
				for line := range strings.Lines(r.headers) {
					name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
					sent.Header.Set(name, value)
				}
				response, err := http.DefaultClient.Do(sent)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(response.Body)
				_ = response.Body.Close()
				sees := ""
				if r.sees != "" {
					sees = fieldIn(string(body), "X-Lumio-Key-Label") + " " + fieldIn(string(body), "Remote-User")
				}
				if response.StatusCode != r.want || sees != r.sees {
					t.Errorf("%s %s with %q: %d, the API sees %q, want %d %q", r.method, r.path, r.headers, response.StatusCode, sees, r.want, r.sees)
				}
			}
		})
	}
}

// fieldIn returns a field that [echo] has received.
func fieldIn(body, name string) string {
	_, value, _ := strings.Cut(body, name+": ")
	value, _, _ = strings.Cut(value, "\r\n")
	return value
}

// recipe returns the Caddyfile under a heading of docs/recipes.md.
func recipe(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/recipes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	block := regexp.MustCompile("(?s)```caddyfile\n(.*?)```").FindStringSubmatch(section)
	if block == nil {
		t.Fatalf("docs/recipes.md has no Caddyfile for %q", heading)
	}
	return block[1]
}
