package testenv

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// NodePackages installs what the package.json and package-lock.json of a folder name, into a
// folder of this name in the user's cache, and returns that folder. It installs them once.
// Scripts of packages do not run.
func NodePackages(tb testing.TB, from, name string) string {
	tb.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		tb.Fatal(err)
	}
	folder := filepath.Join(cache, "caddy-system-keys-tests", name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		tb.Fatal(err)
	}
	installed := true
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			tb.Fatal(err)
		}
		if old, err := os.ReadFile(filepath.Join(folder, name)); err != nil || !bytes.Equal(old, text) {
			installed = false
		}
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "node_modules")); installed && err == nil {
		return folder
	}
	cmd := exec.CommandContext(tb.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = folder
	if output, err := cmd.CombinedOutput(); err != nil {
		_ = os.Remove(filepath.Join(folder, "package-lock.json"))
		tb.Fatalf("npm cannot install what this test needs: %v\n%s", err, output)
	}
	return folder
}
