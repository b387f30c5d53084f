package integration_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/fcgi"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestIncidentFastCGIAlias has an upstream for which every spelling of a name is
// the same variable, HTTP_X_LUMIO_KEY_ID, and lets all of them through to the
// handler.
func TestIncidentFastCGIAlias(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		// It ends with its listener.
		_ = fcgi.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = r.Header.Write(w) }))
	}()
	address := freeAddr(t)
	id, key := loadWithKey(t, "bot", []string{"bots:read"}, fmt.Sprintf(`servers %s {
		expected_underscore_headers X_Lumio_* X-Lumio_Key.Id X_Lumio-Assertion
		expected_dot_headers X.Lumio.* X-Lumio_Key.Id
	}`, address), fmt.Sprintf(`http://:%s {
		bind 127.0.0.1
		system_key_auth {
			passthrough
		}
		reverse_proxy %s {
			transport fastcgi
		}
	}`, port(t, address), listener.Addr()))
	for name, test := range map[string]struct {
		fields []field
		want   []string
	}{
		"with a key": {
			[]field{{"Authorization", "Bearer " + key}},
			[]string{"X-Lumio-Auth-Type: system_key", "X-Lumio-Key-Id: " + id, "X-Lumio-Key-Label: bot", "X-Lumio-Permissions: bots:read"},
		},
		"without one": {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := sendHTTP1(t, dial(t, address), "HTTP/1.1", exchange{
				method: "GET", path: "/index.php", fields: slices.Concat(forged(), test.fields, []field{{"X-Other", "kept"}}),
			})
			var identity []string
			for line := range strings.SplitSeq(strings.TrimSpace(got.body), "\r\n") {
				if strings.HasPrefix(strings.ToLower(line), "x-lumio") {
					identity = append(identity, line)
				}
			}
			if got.status != http.StatusOK || !strings.Contains(got.body, "X-Other: kept") {
				t.Fatalf("%d %s", got.status, got.body)
			}
			if diff := cmp.Diff(test.want, identity); diff != "" {
				t.Errorf("the script sees (-want +got):\n%s", diff)
			}
		})
	}
}
