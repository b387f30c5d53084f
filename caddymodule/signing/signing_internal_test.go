package signing

import (
	"crypto/tls"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// TestClientTarget signs what the client has sent, however often it was rewritten.
func TestClientTarget(t *testing.T) {
	t.Parallel()
	forwarded := http.Header{"X-Forwarded-Proto": {"http", "https"}, "X-Forwarded-Host": {"inner", "Outer.example:443"}}
	for name, test := range map[string]struct {
		method, target string
		header         http.Header
		change         func(*http.Request)
		trusted        bool
		wantMethod     string
		want           string
	}{
		"as it came":                           {target: "http://API.example.com:80/a%2Fb//c?q", want: "http://api.example.com/a%2Fb//c"},
		"in the absolute form, without a path": {target: "http://b.example", want: "http://b.example/"},
		"in the absolute form, with a query":   {target: "http://b.example?q", want: "http://b.example/"},
		"about the server as a whole":          {method: http.MethodOptions, target: "*", wantMethod: http.MethodOptions, want: "http://example.com"},
		"over TLS": {
			target: "http://api.example.com:443/", change: func(r *http.Request) { r.TLS = new(tls.ConnectionState) },
			want: "https://api.example.com/",
		},
		"rewritten": {target: "http://a/v1/x", change: func(r *http.Request) {
			r.Method, r.URL.Path, r.URL.RawPath, r.RequestURI = http.MethodPost, "/y", "", "/y"
		}, want: "http://a/v1/x"},
		"forwarded by somebody":              {target: "http://a/x", header: forwarded, want: "http://a/x"},
		"forwarded by a proxy that is known": {target: "http://a/x", header: forwarded, trusted: true, want: "https://outer.example/x"},
		"by a known proxy that says nothing": {target: "http://a/x", trusted: true, want: "http://a/x"},
		"a WebSocket over HTTP/2":            {method: http.MethodConnect, target: "http://a/socket", want: "http://a/socket"},
		"another method":                     {method: "PURGE", target: "http://a/x", wantMethod: "PURGE", want: "http://a/x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			method, wantMethod := test.method, test.wantMethod
			if method == "" {
				method = http.MethodGet
			}
			if wantMethod == "" {
				wantMethod = http.MethodGet
			}
			sent := httptest.NewRequest(http.MethodGet, test.target, http.NoBody)
			sent.Method = method
			r := caddyhttp.PrepareRequest(sent, caddy.NewReplacer(), httptest.NewRecorder(), nil)
			caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, test.trusted)
			maps.Copy(r.Header, test.header)
			if test.change != nil {
				test.change(r)
			}
			if gotMethod, got := clientTarget(r); got != test.want || gotMethod != wantMethod {
				t.Errorf("%s %s, want %s %s", gotMethod, got, wantMethod, test.want)
			}
		})
	}
}
