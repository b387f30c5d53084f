package gate_test

import (
	"maps"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/internal/gate"
)

// TestWithdrawLeavesNothingOfTheCaller has other handlers add fields meanwhile.
func TestWithdrawLeavesNothingOfTheCaller(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*gate.Config)
		added  http.Header
		want   http.Header
	}{
		"the fields and the assertion": {
			func(c *gate.Config) { c.Assert = signed }, nil, http.Header{"Accept": {"*/*"}},
		},
		"a field that another handler has put under the prefix": {
			nil,
			http.Header{"X_lumio.Team": {"a"}, "X-Lumio-Key-Id": {"edited"}, "X-Team": {"a"}},
			http.Header{"Accept": {"*/*"}, "X-Team": {"a"}},
		},
		"the credential that was kept": {
			func(c *gate.Config) { c.KeepCredential = true }, nil, http.Header{"Accept": {"*/*"}},
		},
		"another credential, for the upstream": {
			nil,
			http.Header{"Authorization": {"Basic b2Y6dGhlIHVwc3RyZWFt"}},
			http.Header{"Accept": {"*/*"}, "Authorization": {"Basic b2Y6dGhlIHVwc3RyZWFt"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, test.change)
			r := request("", "", http.Header{"Authorization": {"Bearer " + live}, "Accept": {"*/*"}})
			if _, refusal := check(g, r, new(verifier), nil); refusal != nil {
				t.Fatal(refusal)
			}
			maps.Copy(r.Header, test.added)
			g.Withdraw(r)
			if diff := cmp.Diff(test.want, r.Header); diff != "" {
				t.Errorf("what is left (-want +got):\n%s", diff)
			}
		})
	}
}
