package integration_test

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// TestTheRecipeOfSeveralSites runs its Caddyfile, which has sites of its own. It also asks for
// the links of the System page, which stay below the path that is taken away.
func TestTheRecipeOfSeveralSites(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	_, bots := mint(t, keys, "bots", "bots:read")
	_, billing := mint(t, keys, "billing", "billing:read")
	first, second := testenv.FreeAddress(t), testenv.FreeAddress(t)
	load(t, globals(b.options+"\n"+cheap)+strings.NewReplacer(
		"localhost:8081", first, "localhost:8082", second,
		"localhost:8001", echo(t), "localhost:8002", echo(t), "localhost:8000", echo(t),
	).Replace(recipe(t, "Several sites")))
	for _, r := range []struct {
		url, key string
		want     int
	}{
		{first + "/", bots, http.StatusOK},
		{first + "/", billing, http.StatusForbidden},
		{first + "/", "", http.StatusUnauthorized},
		{second + "/billing/1", billing, http.StatusOK},
		{second + "/billing/1", bots, http.StatusForbidden},
		{second + "/lumio/anything", bots, http.StatusOK},
		{second + "/lumio/anything", bots + "x", http.StatusUnauthorized},
		{second + "/lumio/v1/admin/system-keys", bots, http.StatusForbidden},
	} {
		authorization := ""
		if r.key != "" {
			authorization = "Bearer " + r.key
		}
		if status, _, body := get(t, "http://"+r.url, authorization); status != r.want {
			t.Errorf("%s: %d %s, want %d", r.url, status, body, r.want)
		}
	}
	_, _, page := get(t, "http://"+second+"/lumio/system", "")
	if !strings.Contains(page, `action="/lumio/system`) || strings.Contains(page, `="/system`) {
		t.Errorf("the page has forms or links above /lumio:\n%s", page)
	}
}

// TestTheRecipeOfNetworks sends the address of a client as a proxy does that is trusted.
func TestTheRecipeOfNetworks(t *testing.T) {
	b := onSQLite(t)
	_, key, err := b.keys(t).Create(t.Context(), admin.CLI(), admin.NewKey{Label: "worker", Networks: []string{"10.8.0.0/16"}})
	if err != nil {
		t.Fatal(err)
	}
	address := testenv.FreeAddress(t)
	load(t, strings.NewReplacer(
		"10.0.0.0/8", "127.0.0.0/8",
		"\tsystem_keys\n}\n", "\tadmin off\n\tpersist_config off\n\tsystem_keys {\n"+b.options+"\n"+cheap+"}\n}\n",
	).Replace(recipe(t, "Networks"))+"http://"+address+" {\nsystem_key_auth\nreverse_proxy "+echo(t)+"\n}\n")
	for forwarded, want := range map[string]int{
		"10.8.0.1":            http.StatusOK,
		"10.9.0.1":            http.StatusForbidden,
		"10.8.0.1, 192.0.2.1": http.StatusForbidden, // what the client made up, and its address
		"":                    http.StatusForbidden,
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+key)
		request.Header.Set("X-Forwarded-For", forwarded)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode != want || want == http.StatusForbidden && !strings.Contains(string(body), "network_not_allowed") {
			t.Errorf("from %q: %d %s, want %d", forwarded, response.StatusCode, body, want)
		}
	}
}

// TestTheRecipeOfAKeyThatRotatesItself runs its script twice, as cron does.
func TestTheRecipeOfAKeyThatRotatesItself(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	_, plain := mint(t, keys, "bot", "system-keys:rotate")
	address := run(t, b, "system_keys_admin\nsystem_key_auth\nreverse_proxy "+echo(t))

	text, err := os.ReadFile("../docs/recipes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, script, _ := strings.Cut(string(text), "\n    #!/bin/sh\n")
	script, _, _ = strings.Cut(script, "\n\n")
	folder := t.TempDir()
	script = strings.NewReplacer("https://api.example.com", "http://"+address, "/etc/bot", folder, "systemctl reload bot", "touch "+folder+"/reloaded").Replace(script)
	file := filepath.Join(folder, "key")
	if err := os.WriteFile(file, []byte(plain), 0o640); err != nil {
		t.Fatal(err)
	}
	before := plain
	for range 2 {
		if output, err := exec.CommandContext(t.Context(), "sh", "-c", script).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		now, err := os.ReadFile(file)
		if err != nil || string(now) == before {
			t.Fatalf("the file has the old key, %v", err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		for _, key := range []string{before, string(now)} {
			if status, _, _ := get(t, "http://"+address, "Bearer "+key); status != http.StatusOK {
				t.Errorf("after a rotation a key gets %d", status)
			}
		}
		before = string(now)
	}
	if _, err := os.Stat(folder + "/reloaded"); err != nil {
		t.Error(err)
	}
}
