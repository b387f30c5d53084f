package caddymodule_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/google/go-cmp/cmp"

	_ "github.com/lumio-vision/caddy-system-keys/caddymodule"
)

var update = flag.Bool("update", false, "write the golden files")

// separator stands between a Caddyfile and what becomes of it.
const separator = "----------\n"

// TestAdapt adapts every Caddyfile under testdata/adapt and compares the result,
// JSON or the text of an error, with what follows the separator. What adapts is
// then checked as `caddy validate` does: nothing may be opened and no variable
// need be set for that.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddytest")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	t.Setenv("XDG_DATA_HOME", filepath.Join(t.TempDir(), "not", "there"))
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddytest"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, _ := strings.Cut(string(content), separator)
			got := adaptAndValidate(t, input)
			if *update {
				if err := os.WriteFile(file, []byte(input+separator+got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func adaptAndValidate(t *testing.T, input string) string {
	t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err.Error() + "\n"
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, config, "", "\t"); err != nil {
		t.Fatal(err)
	}
	var parsed caddy.Config
	if err := json.Unmarshal(config, &parsed); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&parsed); err != nil {
		return indented.String() + "\nvalidate: " + err.Error() + "\n"
	}
	return indented.String() + "\n"
}

// TestTheExampleIsValid checks Caddyfile.example with nothing of what it names.
func TestTheExampleIsValid(t *testing.T) {
	example, err := os.ReadFile("../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	if got := adaptAndValidate(t, string(example)); !strings.HasPrefix(got, "{") || strings.Contains(got, "validate: ") {
		t.Error(got)
	}
	if formatted := caddyfile.Format(example); !bytes.Equal(formatted, example) {
		t.Error("`caddy fmt` would change Caddyfile.example")
	}
}
