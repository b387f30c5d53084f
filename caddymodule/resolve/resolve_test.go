package resolve_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/resolve"
)

func TestText(t *testing.T) {
	t.Setenv("SYSTEM_KEYS_TEST_SECRET", "from the environment")
	t.Setenv("SYSTEM_KEYS_TEST_EMPTY", "")
	t.Setenv("SYSTEM_KEYS_TEST_BLANKS", " \tpadded \r\n")
	t.Setenv("SYSTEM_KEYS_TEST_QUOTES", `"a-secret"`)
	t.Setenv("SYSTEM_KEYS_TEST_MARK", "\ufeffa-secret")
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		"literal":                         "literal",
		"{env.SYSTEM_KEYS_TEST_SECRET}":   "from the environment",
		"a {env.SYSTEM_KEYS_TEST_SECRET}": "a from the environment",
		"{file." + file + "}":             "from a file",
		"{env.SYSTEM_KEYS_TEST_BLANKS}":   "padded",
		"a{env.SYSTEM_KEYS_TEST_BLANKS}b": "apaddedb",
		" padded ":                        "padded",
		"{env.SYSTEM_KEYS_TEST_QUOTES}":   "",
		"a:{env.SYSTEM_KEYS_TEST_QUOTES}": "",
		"{env.SYSTEM_KEYS_TEST_MARK}":     "",
		"'a-secret'":                      "",
		"":                                "",
		"{env.SYSTEM_KEYS_TEST_EMPTY}":    "",
		"{env.SYSTEM_KEYS_TEST_UNSET}":    "",
		"{file." + file + ".not-there}":   "",
		"half-{of.a-secret}":              "",
	} {
		got, err := resolve.Text(caddy.NewReplacer(), value)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q became %q, %v", value, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "a-secret") {
			t.Errorf("the error repeats a part of the value: %v", err)
		}
	}
}
