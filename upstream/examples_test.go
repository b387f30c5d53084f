package upstream_test

import (
	"os/exec"
	"testing"
)

// TestExamplesOfOtherLanguages runs those of docs/upstream against the vectors. Node
// needs nothing else, Python needs the package cryptography; .ci/needs installs them.
// That of Rust needs crates from a registry: cargo test in its folder does the same.
func TestExamplesOfOtherLanguages(t *testing.T) {
	t.Parallel()
	for name, command := range map[string][]string{
		"Node":   {"node", "../docs/upstream/node/vectors.mjs", vectorsFile},
		"Python": {"python3", "../docs/upstream/python/vectors.py", vectorsFile},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := exec.CommandContext(t.Context(), command[0], command[1:]...)
			c.Env = append(c.Environ(), "PYTHONDONTWRITEBYTECODE=1")
			out, err := c.CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s\n(apt-get install nodejs python3-cryptography)", err, out)
			}
			t.Logf("%s", out)
		})
	}
}
