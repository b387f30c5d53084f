package integration_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// TestTheExample plays Caddyfile.example, with its store, its names and its log
// put where a test can reach them.
func TestTheExample(t *testing.T) {
	example, err := os.ReadFile("../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	b := onPostgres(t)
	keys := b.keys(t)
	bot, plain := mint(t, keys, "bot", "bots:read")
	_, internal := mint(t, keys, "worker", "internal:call")
	address, log := testenv.FreeAddress(t), filepath.Join(t.TempDir(), "log")
	text := string(example)
	for old, renewed := range map[string]string{
		"store postgres {env.DATABASE_URL}":      strings.Split(b.options, "\n")[0],
		"redis {env.REDIS_URL}":                  strings.Split(b.options, "\n")[1],
		"secret {file./run/secrets/system_keys}": strings.Split(b.options, "\n")[2] + "\n" + cheap,
		"{\n	system_keys {":                      "{\nadmin off\npersist_config off\ngrace_period 1s\n	system_keys {",
		"api.example.com {":                      "http://" + address + " {",
		"lumio-api:8000":                         echo(t),
		"	log {\n":                               "	log {\noutput file " + log + "\n",
	} {
		if !strings.Contains(text, old) {
			t.Fatalf("the example has no %q", old)
		}
		text = strings.ReplaceAll(text, old, renewed)
	}
	load(t, text)
	url := "http://" + address

	status, _, body := get(t, url+"/users", "Bearer lm_eyJhbGciOiJFUzI1NiJ9.e30.c2ln")
	if status != http.StatusOK || strings.Contains(body, "X-Lumio") || !strings.Contains(body, "Authorization: Bearer lm_eyJ") {
		t.Errorf("a user's request: %d, the upstream received\n%s", status, body)
	}
	status, _, body = get(t, url+"/users", "Bearer "+plain)
	if status != http.StatusOK || !strings.Contains(body, "X-Lumio-Key-Id: "+bot.ID.String()+"\r\n") || strings.Contains(body, "lm_sys_") {
		t.Errorf("a key's request: %d, the upstream received\n%s", status, body)
	}
	for _, path := range []string{"/internal", "/internal/x", "//internal/x", "/%69nternal/x"} {
		for authorization, want := range map[string]int{
			"": http.StatusUnauthorized, "Bearer " + plain: http.StatusForbidden, "Bearer " + internal: http.StatusOK,
		} {
			if status, _, _ := get(t, url+path, authorization); status != want {
				t.Errorf("%s: %d, want %d", path, status, want)
			}
		}
	}
	for _, query := range []string{"token", "Token", "key"} {
		get(t, url+"/?"+query+"="+plain, "")
	}
	content, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(content), plain[7:]) || !strings.Contains(string(content), "=REDACTED") {
		t.Errorf("the log is\n%s", content)
	}
}
