package integration_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/upstream"
)

// TestACacheBehindTheProxy has a real Varnish between Caddy and an API whose answers may be
// cached. It shows what happens without the lines of docs/recipes.md, and what with them.
func TestACacheBehindTheProxy(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/signed/") {
			w.Header().Set("Cache-Control", "max-age=600")
		}
		_, _ = fmt.Fprintf(w, "for %s", r.Header.Get("X-Lumio-Key-Id"))
	})
	signed := upstream.NewShared("lumio-api", secret).With(upstream.WithLogger(slog.New(slog.DiscardHandler))).Require()(hello)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/signed/") {
			signed.ServeHTTP(w, r)
			return
		}
		hello.ServeHTTP(w, r)
	}))
	t.Cleanup(api.Close)
	behind := api.Listener.Addr().String()
	builtIn, withLines := testenv.StartVarnish(t, behind, ""), testenv.StartVarnish(t, behind, linesForVarnish(t))

	b := onSQLite(t)
	keys := b.keys(t)
	first, firstKey := mint(t, keys, "first")
	second, secondKey := mint(t, keys, "second")
	site := func(path, options, cache string) string {
		return fmt.Sprintf("handle %s/* {\nsystem_key_auth {\npassthrough\n%s\n}\nreverse_proxy %s\n}\n", path, options, cache)
	}
	url := "http://" + run(t, b, site("/bare", "", builtIn)+
		site("/kept", "keep_credential", builtIn)+
		site("/lines", "", withLines)+
		site("/signed", "assertion lumio-api {\nsecret "+secret+"\n}", builtIn))

	ofFirst, ofSecond := "for "+first.ID.String(), "for "+second.ID.String()
	for path, test := range map[string]struct{ second, nobody string }{
		"/bare":   {ofFirst, ofFirst}, // the leak: who has no key gets it too, with passthrough
		"/kept":   {ofSecond, "for "},
		"/lines":  {ofSecond, "for "},
		"/signed": {ofSecond, ""},
	} {
		for _, call := range []struct{ who, authorization, want string }{
			{"the first key", "Bearer " + firstKey, ofFirst},
			{"the second key", "Bearer " + secondKey, test.second},
			{"nobody", "", test.nobody},
			{"the first key again", "Bearer " + firstKey, ofFirst},
		} {
			status, header, body := get(t, url+path+"/bots", call.authorization)
			if path == "/signed" && call.authorization == "" {
				if status != http.StatusUnauthorized {
					t.Errorf("%s for %s: %d %s", path, call.who, status, body)
				}
				continue
			}
			if status != http.StatusOK || body != call.want {
				t.Errorf("%s for %s: %d %q, want %q", path, call.who, status, body, call.want)
			}
			// Varnish names the request that has filled the cache beside this one.
			if hit := strings.Contains(header.Get("X-Varnish"), " "); call.who == "the first key again" && hit != (path == "/bare" || path == "/lines") {
				t.Errorf("%s for %s comes from the cache: %v", path, call.who, hit)
			}
		}
	}
}

// linesForVarnish are those of docs/recipes.md.
func linesForVarnish(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/recipes.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```vcl\n(.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("docs/recipes.md has no lines for Varnish")
	}
	return string(block[1])
}
