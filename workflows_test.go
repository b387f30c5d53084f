package systemkeys_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestEveryActionIsPinned: a tag can be moved to another commit, and a workflow has rights.
func TestEveryActionIsPinned(t *testing.T) {
	t.Parallel()
	pinned := regexp.MustCompile(`^[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	files, err := filepath.Glob(".github/workflows/*")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d workflows, %v", len(files), err)
	}
	used := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			action, found := strings.CutPrefix(strings.TrimLeft(line, " -"), "uses:")
			if !found {
				continue
			}
			if used++; !pinned.MatchString(strings.TrimSpace(action)) {
				t.Errorf("%s: %s is not pinned by its commit, with its version behind", file, strings.TrimSpace(action))
			}
		}
		var workflow struct {
			Permissions map[string]string
		}
		if err := yaml.Unmarshal(text, &workflow); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for scope, right := range workflow.Permissions {
			if right != "read" {
				t.Errorf("%s: every job may %s %s", file, right, scope)
			}
		}
		if workflow.Permissions == nil {
			t.Errorf("%s: jobs have the default rights", file)
		}
	}
	if used < 4 {
		t.Errorf("%d actions were found", used)
	}
}

// TestThePlatformsOfAReleaseAreDocumented reads .ci/release and docs/verify.md.
func TestThePlatformsOfAReleaseAreDocumented(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile(".ci/release")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("docs/verify.md")
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`(?m)^platforms='(.*)'$`).FindSubmatch(script)
	if list == nil {
		t.Fatal("there is no list of platforms")
	}
	var documented []string
	for _, name := range regexp.MustCompile("`(?:caddy-system-keys_1.2.3_)?((?:linux|darwin|windows)_[a-z0-9]+)(?:.exe)?`").FindAllSubmatch(page, -1) {
		documented = append(documented, strings.Replace(string(name[1]), "_", "/", 1))
	}
	built := strings.Fields(string(list[1]))
	slices.Sort(built)
	slices.Sort(documented)
	if !slices.Equal(built, documented) {
		t.Errorf("built are %v, and documented %v", built, documented)
	}
}
