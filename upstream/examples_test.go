package upstream_test

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"sync/atomic"
	"testing"
)

// TestExamplesOfOtherLanguages runs those of docs/upstream against the vectors, with keys
// that they read from a server as they would from the proxy, and with shared secrets. Node needs nothing else,
// Python needs the package cryptography; .ci/needs installs them. That of Rust needs
// crates from a registry: cargo test in its folder does the same without the server.
func TestExamplesOfOtherLanguages(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ program, script string }{
		"Node":   {"node", "../docs/upstream/node/vectors.mjs"},
		"Python": {pythonWith(t, "cryptography"), "../docs/upstream/python/vectors.py"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			keys := makeVectors().JWKS
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/keys" {
					http.Error(w, "there are none", http.StatusServiceUnavailable)
					return
				}
				asked.Add(1)
				_, _ = w.Write(keys)
			}))
			defer server.Close()
			c := exec.CommandContext(t.Context(), test.program, test.script, vectorsFile, server.URL+"/keys", server.URL+"/nothing")
			c.Env = append(c.Environ(), "PYTHONDONTWRITEBYTECODE=1")
			out, err := c.CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
			// Once at first, and once for each key that is not one of the proxy.
			if n := asked.Load(); n < 2 || n > 8 {
				t.Errorf("the keys were read %d times", n)
			}
			t.Logf("%s", out)
			shared := exec.CommandContext(t.Context(), test.program, test.script, sharedVectorsFile)
			shared.Env = c.Env
			if out, err := shared.CombinedOutput(); err != nil {
				t.Errorf("with shared secrets: %v: %s", err, out)
			}
		})
	}
}

// pythonWith finds an interpreter that has these packages, separated by commas: the first on
// the path need not be the one for which the system installs packages.
func pythonWith(t *testing.T, name string) string {
	t.Helper()
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), python, "-c", "import "+name).Run() == nil {
			return python
		}
	}
	t.Fatalf("no python3 has %s; .ci/needs installs them", name)
	return ""
}
