package integration_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/upstream"
)

// service is an API that verifies who calls it. It answers with what it knows.
type service struct {
	address string
	// last is the newest request that has arrived.
	last *http.Request
}

// seen is what the service says of its caller.
type seen struct {
	KeyID       string
	Label       string
	Permissions []string
	// Header is what a handler can read under the prefix.
	Header map[string][]string
}

// newService verifies with the keys that are at the sidecar. The patterns are those of
// the service's routes.
func newService(tb testing.TB, sidecar string, options ...upstream.Option) *service {
	tb.Helper()
	verifier := upstream.New("http://"+sidecar+"/.well-known/lumio-keys.json", "lumio-api",
		append([]upstream.Option{upstream.WithLogger(slog.New(slog.DiscardHandler))}, options...)...)
	return serviceWith(tb, verifier)
}

// sharing verifies with these secrets.
func sharing(tb testing.TB, secrets ...string) *service {
	tb.Helper()
	return serviceWith(tb, upstream.NewShared("lumio-api", secrets...).With(upstream.WithLogger(slog.New(slog.DiscardHandler))))
}

func serviceWith(tb testing.TB, verifier *upstream.Verifier) *service {
	tb.Helper()
	s := new(service)
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var out seen
		if id, ok := upstream.FromContext(r.Context()); ok {
			out = seen{KeyID: id.KeyID, Label: id.Label, Permissions: id.Permissions}
		}
		out.Header = make(map[string][]string)
		for name, values := range r.Header {
			if strings.HasPrefix(name, "X-Lumio-") && name != "X-Lumio-Assertion" {
				out.Header[name] = values
			}
		}
		_ = json.NewEncoder(w).Encode(out)
	})
	write, open, read := verifier.Require("bots:write")(answer), verifier.Identify(answer), verifier.Require("bots:read")(answer)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.last = r.Clone(r.Context())
		switch { // a ServeMux would redirect unclean paths
		case strings.HasPrefix(r.URL.Path, "/write/"):
			write.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, "/open/"):
			open.ServeHTTP(w, r)
		default:
			read.ServeHTTP(w, r)
		}
	}))
	tb.Cleanup(server.Close)
	s.address = server.Listener.Addr().String()
	return s
}

// signedSite has the sidecar stand before a service, with these directives in between.
func signedSite(service *service, options, between string) string {
	return fmt.Sprintf("system_key_auth {\npassthrough\nassertion lumio-api {\n%s\n}\n}\n%s\nreverse_proxy %s", options, between, service.address)
}

func readAssertion(t *testing.T, assertion string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		t.Fatalf("assertion %q", assertion)
	}
	for i, into := range []*map[string]any{&header, &claims} {
		text, err := decodeSegment(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

func decodeSegment(segment string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(segment)
}
