package integration_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/upstream"
)

// service is an API that verifies who calls it. It answers with what it knows.
type service struct {
	address string
	// requests are what arrived, and last is the newest.
	last *http.Request
}

// caller is what the service says of its caller.
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
	options = append([]upstream.Option{upstream.WithLogger(slog.New(slog.DiscardHandler))}, options...)
	verifier := upstream.New("http://"+sidecar+"/.well-known/lumio-keys.json", "lumio-api", options...)
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

// TestUpstreamVerifiesTheSidecar runs them on both stores.
func TestUpstreamVerifiesTheSidecar(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			keys := b.keys(t)
			key, plain := mint(t, keys, "Ünïcode 100 %", "chat:read", "bots:read")
			address := testenv.FreeAddress(t)
			service := newService(t, address)
			load(t, globals(b.options+"\n"+cheap)+fmt.Sprintf("http://%s {\n%s\n}\n", address, signedSite(service, "", "")))

			for _, path := range []string{"/bots/17?limit=1", "/a%2Fb/%C3%A9//c", "/open/x", "/", "//double", "/a/../b", "/%41"} {
				status, _, body := get(t, "http://"+address+path, "Bearer "+plain)
				if status != http.StatusOK {
					t.Errorf("%s: %d %s", path, status, body)
					continue
				}
				var got seen
				if err := json.Unmarshal([]byte(body), &got); err != nil {
					t.Fatal(err)
				}
				want := seen{KeyID: key.ID.String(), Label: "Ünïcode 100 %", Permissions: []string{"bots:read", "chat:read"}}
				want.Header = map[string][]string{
					"X-Lumio-Auth-Type": {"system_key"}, "X-Lumio-Key-Id": {key.ID.String()},
					"X-Lumio-Key-Label": {"%C3%9Cn%C3%AFcode 100 %25"}, "X-Lumio-Permissions": {"bots:read,chat:read"},
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", path, diff)
				}
			}
			if status, _, body := get(t, "http://"+address+"/write/x", "Bearer "+plain); status != http.StatusForbidden || !strings.Contains(body, "insufficient_scope") {
				t.Errorf("without the permission: %d %s", status, body)
			}
			if status, _, body := get(t, "http://"+address+"/bots/17", ""); status != http.StatusUnauthorized {
				t.Errorf("without a key: %d %s", status, body)
			}
			if status, _, body := get(t, "http://"+address+"/open/x", ""); status != http.StatusOK || strings.Contains(body, key.ID.String()) {
				t.Errorf("without a key where none is needed: %d %s", status, body)
			}
			mustRemoveNothing(t, address, plain)
			mustStealNothing(t, service, address, plain)
			wantClaims(t, service, address, plain, key)
		})
	}
}

// mustRemoveNothing sends what has a proxy drop or double an assertion, where it is not
// looked after.
func mustRemoveNothing(t *testing.T, address, plain string) {
	t.Helper()
	for name, header := range map[string]http.Header{
		"named in Connection":  {"Connection": {"close, X-Lumio-Assertion"}},
		"forged":               {"X-Lumio-Assertion": {"forged", "again"}},
		"in another spelling":  {"X-LUMIO-assertion": {"forged"}, "x_lumio_assertion": {"forged"}, "X.Lumio.Assertion": {"forged"}},
		"announced as trailer": {"Trailer": {"X-Lumio-Assertion"}},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/bots/17", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		r.Header["Authorization"] = []string{"Bearer " + plain}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK || strings.Contains(string(body), "forged") {
			t.Errorf("%s: %d %s", name, response.StatusCode, body)
		}
	}
}

// mustStealNothing sends what was made for one request with others, to the service
// itself, as somebody in the network between might.
func mustStealNothing(t *testing.T, service *service, address, plain string) {
	t.Helper()
	get(t, "http://"+address+"/bots/17", "Bearer "+plain)
	stolen := service.last.Header.Clone()
	for name, test := range map[string]struct {
		method, path string
		change       func(http.Header)
		status       int
	}{
		"the same request": {path: "/bots/17", status: http.StatusOK},
		"another path":     {path: "/bots/18", status: http.StatusUnauthorized},
		"another method":   {method: http.MethodDelete, path: "/bots/17", status: http.StatusUnauthorized},
		"another host":     {path: "/bots/17", change: func(h http.Header) { h.Set("X-Forwarded-Host", "other") }, status: http.StatusUnauthorized},
		"another scheme":   {path: "/bots/17", change: func(h http.Header) { h.Set("X-Forwarded-Proto", "https") }, status: http.StatusUnauthorized},
		"twice":            {path: "/bots/17", change: func(h http.Header) { h.Add("X-Lumio-Assertion", h.Get("X-Lumio-Assertion")) }, status: http.StatusUnauthorized},
		"headers alone":    {path: "/bots/17", change: func(h http.Header) { h.Del("X-Lumio-Assertion") }, status: http.StatusUnauthorized},
		"headers alone, where nobody need be known": {
			path: "/open/x", change: func(h http.Header) { h.Del("X-Lumio-Assertion") }, status: http.StatusUnauthorized,
		},
		"with more of its own": {path: "/bots/17", change: func(h http.Header) {
			h.Set("X-Lumio-Key-Id", "forged")
			h["X_lumio_permissions"] = []string{"admin:access"}
			h.Set("X-Lumio-Other", "forged")
		}, status: http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			method := test.method
			if method == "" {
				method = http.MethodGet
			}
			r, err := http.NewRequestWithContext(t.Context(), method, "http://"+service.address+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header = stolen.Clone()
			if test.change != nil {
				test.change(r.Header)
			}
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			body, _ := io.ReadAll(response.Body)
			if response.StatusCode != test.status || strings.Contains(string(body), "forged") || strings.Contains(string(body), "admin:access") {
				t.Errorf("got %d %s, want %d", response.StatusCode, body, test.status)
			}
		})
	}
}

// wantClaims reads an assertion as anybody can.
func wantClaims(t *testing.T, service *service, address, plain string, key *store.Key) {
	t.Helper()
	ids := make(map[string]bool)
	for range 3 {
		get(t, "http://"+address+"/bots/17?secret=x", "Bearer "+plain)
		header, claims := readAssertion(t, service.last.Header.Get("X-Lumio-Assertion"))
		wantHeader := map[string]any{"alg": "EdDSA", "typ": "lumio-key+jwt", "kid": header["kid"]}
		if diff := cmp.Diff(wantHeader, header); diff != "" || len(header["kid"].(string)) != 43 {
			t.Errorf("header (-want +got):\n%s", diff)
		}
		ids[claims["jti"].(string)] = true
		now := float64(time.Now().Unix())
		if iat := claims["iat"].(float64); iat > now || iat < now-5 || claims["exp"].(float64)-iat != 60 {
			t.Errorf("from %v to %v at %v", claims["iat"], claims["exp"], now)
		}
		for _, name := range []string{"jti", "iat", "exp"} {
			delete(claims, name)
		}
		want := map[string]any{
			"iss": "caddy-system-keys", "aud": "lumio-api", "sub": key.ID.String(), "label": "Ünïcode 100 %",
			"permissions": []any{"bots:read", "chat:read"}, "htm": "GET", "htu": "http://" + address + "/bots/17",
		}
		if diff := cmp.Diff(want, claims); diff != "" {
			t.Errorf("claims (-want +got):\n%s", diff)
		}
	}
	if len(ids) != 3 {
		t.Errorf("%d ids of 3 assertions", len(ids))
	}
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

// TestWhatIsSignedIsWhatTheClientSent has the sidecar rewrite requests, in ways that
// each have their option.
func TestWhatIsSignedIsWhatTheClientSent(t *testing.T) {
	b := onSQLite(t)
	_, plain := mint(t, b.keys(t), "bot", "bots:read")
	for name, test := range map[string]struct {
		options, between string
		option           func(address string) upstream.Option
		status           int
	}{
		"a path that is stripped, and nobody says so": {between: "uri strip_prefix /v1", status: http.StatusUnauthorized},
		"a path that is stripped": {
			between: "uri strip_prefix /v1",
			option:  func(address string) upstream.Option { return upstream.WithBaseURL("http://" + address + "/v1") }, status: http.StatusOK,
		},
		"a path and a method that are rewritten": {
			between: "rewrite * /x{uri}\nmethod POST",
			option: func(string) upstream.Option {
				return upstream.WithTarget(func(r *http.Request) upstream.Target {
					target := upstream.ClientTarget(r)
					return upstream.Target{Method: http.MethodGet, URL: strings.Replace(target.URL, "/x", "", 1)}
				})
			}, status: http.StatusOK,
		},
		"a host that is another": {
			between: "request_header Host internal\nrequest_header -X-Forwarded-Host",
			option: func(address string) upstream.Option {
				return upstream.WithBaseURL("https://api.example.com", "http://"+address)
			}, status: http.StatusOK,
		},
		"assertions for no request, and they are not asked for": {options: "unbound", status: http.StatusUnauthorized},
		"assertions for no request": {
			options: "unbound", option: func(string) upstream.Option { return upstream.WithoutBinding() }, status: http.StatusOK,
		},
		"another issuer, and nobody says so": {options: "issuer lumio", status: http.StatusUnauthorized},
		"another issuer":                     {options: "issuer lumio", option: func(string) upstream.Option { return upstream.WithIssuer("lumio") }, status: http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			address := testenv.FreeAddress(t)
			var options []upstream.Option
			if test.option != nil {
				options = append(options, test.option(address))
			}
			service := newService(t, address, options...)
			load(t, globals(b.options+"\n"+cheap)+fmt.Sprintf("http://%s {\n%s\n}\n", address, signedSite(service, test.options, test.between)))
			if status, _, body := get(t, "http://"+address+"/v1/bots/17", "Bearer "+plain); status != test.status {
				_, claims := readAssertion(t, service.last.Header.Get("X-Lumio-Assertion"))
				t.Errorf("%d %s, want %d; the claims are %v", status, body, test.status, claims)
			}
		})
	}
}

// TestASidecarBehindAProxyThatIsTrusted signs what that proxy's client has used.
func TestASidecarBehindAProxyThatIsTrusted(t *testing.T) {
	b := onSQLite(t)
	_, plain := mint(t, b.keys(t), "bot", "bots:read")
	for name, test := range map[string]struct{ servers, want string }{
		"trusted":     {"servers {\ntrusted_proxies static 127.0.0.0/8\n}", "https://api.example.com/bots/17"},
		"not trusted": {"", "http://%s/bots/17"},
	} {
		t.Run(name, func(t *testing.T) {
			address := testenv.FreeAddress(t)
			service := newService(t, address)
			load(t, strings.Replace(globals(b.options+"\n"+cheap), "admin off", "admin off\n"+test.servers, 1)+
				fmt.Sprintf("http://%s {\n%s\n}\n", address, signedSite(service, "", "")))
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/bots/17", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+plain)
			r.Header.Set("X-Forwarded-Proto", "https")
			r.Header.Set("X-Forwarded-Host", "API.example.com:443")
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			_, claims := readAssertion(t, service.last.Header.Get("X-Lumio-Assertion"))
			want := test.want
			if strings.Contains(want, "%s") {
				want = fmt.Sprintf(want, address)
			}
			if claims["htu"] != want || response.StatusCode != http.StatusOK {
				t.Errorf("%d, htu is %v, want %s", response.StatusCode, claims["htu"], want)
			}
		})
	}
}

// TestAnAssertionIsNoAdmin replays one to the admin plane, which trusts the very key
// that has signed it, with everything else as it wants it.
func TestAnAssertionIsNoAdmin(t *testing.T) {
	b := onSQLite(t)
	key, plain, err := b.keys(t).Create(t.Context(), admin.CLI(), admin.NewKey{
		Label: "reader", Permissions: []string{"bots:read", "system-keys:read"}, IsSystem: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	address := testenv.FreeAddress(t)
	service := newService(t, address)
	load(t, globals(b.options+"\n"+cheap)+fmt.Sprintf(`http://%s {
		system_keys_admin {
			jwt {
				jwks http://%s/.well-known/lumio-keys.json
				algorithms EdDSA
				issuer caddy-system-keys
				audience lumio-api
			}
		}
		%s
	}
	`, address, address, signedSite(service, "", "")))
	if status, _, body := get(t, "http://"+address+"/bots/17", "Bearer "+plain); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	stolen := service.last.Header.Get("X-Lumio-Assertion")
	if _, claims := readAssertion(t, stolen); claims["sub"] != key.ID.String() {
		t.Fatalf("the claims are %v", claims)
	}
	const path = "/v1/admin/system-keys"
	if status, _, body := get(t, "http://"+address+path, "Bearer "+plain); status != http.StatusOK {
		t.Errorf("the key itself: %d %s", status, body)
	}
	for _, credential := range []string{"Bearer lm_" + stolen, "Bearer " + stolen} {
		if status, _, body := get(t, "http://"+address+path, credential); status != http.StatusUnauthorized {
			t.Errorf("its assertion: %d %s", status, body)
		}
	}
}

// TestUnboundAssertionsAreReused until the key is another.
func TestUnboundAssertionsAreReused(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	_, one := mint(t, keys, "one", "bots:read")
	_, other := mint(t, keys, "other", "bots:read")
	address := testenv.FreeAddress(t)
	service := newService(t, address, upstream.WithoutBinding())
	load(t, globals(b.options+"\n"+cheap)+fmt.Sprintf("http://%s {\n%s\n}\n", address, signedSite(service, "unbound", "")))
	assertion := func(path, plain string) string {
		if status, _, body := get(t, "http://"+address+path, "Bearer "+plain); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
		return service.last.Header.Get("X-Lumio-Assertion")
	}
	first := assertion("/bots/17", one)
	if assertion("/bots/18", one) != first {
		t.Error("a key has two assertions")
	}
	if assertion("/bots/17", other) == first {
		t.Error("two keys have one assertion")
	}
	if _, claims := readAssertion(t, first); claims["htm"] != nil || claims["htu"] != nil {
		t.Errorf("the claims are %v", claims)
	}
}

// TestPublicKeys asks both handlers for them, as nobody, and as a cache does.
func TestPublicKeys(t *testing.T) {
	b := onSQLite(t)
	for name, directive := range map[string]string{
		"system_key_auth":   "system_key_auth {\nrequire a:b\n}",
		"system_keys_admin": "system_keys_admin {\nallowed_hosts keys.example.com\n}",
	} {
		t.Run(name, func(t *testing.T) {
			address := run(t, b, directive+"\nrespond upstream")
			location := (&url.URL{Scheme: "http", Host: address, Path: "/.well-known/lumio-keys.json"}).String()
			var set struct{ Keys []map[string]any }
			deadline := time.Now().Add(5 * time.Second)
			var header http.Header
			for len(set.Keys) == 0 && time.Now().Before(deadline) {
				status, h, body := get(t, location, "Bearer lm_sys_broken")
				if err := json.Unmarshal([]byte(body), &set); err != nil || status != http.StatusOK {
					t.Fatalf("%d %s", status, body)
				}
				header = h
			}
			if len(set.Keys) == 0 {
				t.Fatal("there are none")
			}
			for _, key := range set.Keys {
				if len(key) != 6 || key["kty"] != "OKP" || key["crv"] != "Ed25519" || key["use"] != "sig" || key["alg"] != "EdDSA" {
					t.Errorf("the key is %v", key)
				}
			}
			if header.Get("Content-Type") != "application/jwk-set+json" || !strings.Contains(header.Get("Cache-Control"), "max-age=60") {
				t.Errorf("the header is %v", header)
			}
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, location, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("If-None-Match", header.Get("Etag"))
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusNotModified {
				t.Errorf("who has it gets %d", response.StatusCode)
			}
			status, header, body := do(t, http.MethodPost, location, "", strings.NewReader("{}"))
			if status != http.StatusMethodNotAllowed || header.Get("Allow") != "GET, HEAD" {
				t.Errorf("POST: %d %v %s", status, header, body)
			}
		})
	}
}

func decodeSegment(segment string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(segment)
}

// TestASecondHandlerKeepsTheAssertion of the first, signs one of its own if it is told
// to, and takes none for one that a client has sent.
func TestASecondHandlerKeepsTheAssertion(t *testing.T) {
	b := onSQLite(t)
	_, plain := mint(t, b.keys(t), "bot", "bots:read")
	for name, test := range map[string]struct{ first, second, want string }{
		"the second has none":                    {"assertion lumio-api", "require bots:read", "lumio-api"},
		"the second has another":                 {"assertion lumio-web", "assertion lumio-api", "lumio-api"},
		"the first has none":                     {"require bots:read", "assertion lumio-api", "lumio-api"},
		"the second keeps the key, and has none": {"assertion lumio-api\nkeep_credential", "require bots:read", "lumio-api"},
		"neither has one":                        {"require bots:read", "require bots:read", ""},
		"the first is about other headers":       {"assertion lumio-api\nheader_prefix X-Acme-", "require bots:read", ""},
	} {
		t.Run(name, func(t *testing.T) {
			address := testenv.FreeAddress(t)
			service := newService(t, address)
			load(t, globals(b.options+"\n"+cheap)+fmt.Sprintf(
				"http://%s {\nroute {\nsystem_key_auth {\n%s\n}\nsystem_key_auth {\n%s\n}\nreverse_proxy %s\n}\n}\n",
				address, test.first, test.second, service.address))
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/bots/17", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+plain)
			r.Header.Set("X-Lumio-Assertion", "forged")
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			assertions := service.last.Header["X-Lumio-Assertion"]
			if test.want == "" {
				if len(assertions) > 0 {
					t.Errorf("there is %v", assertions)
				}
				return
			}
			if len(assertions) != 1 || response.StatusCode != http.StatusOK {
				t.Fatalf("%d, %v", response.StatusCode, assertions)
			}
			if _, claims := readAssertion(t, assertions[0]); claims["aud"] != test.want {
				t.Errorf("it is for %v", claims["aud"])
			}
		})
	}
}

// TestASigningKeySurvivesAReload of everything but the store.
func TestASigningKeySurvivesAReload(t *testing.T) {
	b := onSQLite(t)
	_, plain := mint(t, b.keys(t), "bot", "bots:read")
	var kids []any
	for _, option := range []string{"", "ttl 30s"} {
		address := testenv.FreeAddress(t)
		service := newService(t, address)
		load(t, globals(b.options+"\n"+cheap)+fmt.Sprintf("http://%s {\n%s\n}\n", address, signedSite(service, option, "")))
		if status, _, body := get(t, "http://"+address+"/bots/17", "Bearer "+plain); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
		header, _ := readAssertion(t, service.last.Header.Get("X-Lumio-Assertion"))
		kids = append(kids, header["kid"])
	}
	if kids[0] != kids[1] {
		t.Errorf("signed by %v", kids)
	}
}

// TestAnAssertionNeedsAnAudience also where JSON is written by hand, and where it is a
// placeholder that stands for nothing.
func TestAnAssertionNeedsAnAudience(t *testing.T) {
	b := onSQLite(t)
	for name, test := range map[string]struct{ audience, want string }{
		"none":            {`""`, "audience is required"},
		"an unset one":    {`"{env.SYSTEM_KEYS_TEST_NOTHING}"`, "assertion: audience: a placeholder is unknown or empty"},
		"one of the file": {`"{file./nowhere/audience}"`, "assertion: audience: a placeholder is unknown or empty"},
	} {
		t.Run(name, func(t *testing.T) {
			config := adapt(t, globals(b.options)+"http://127.0.0.1:1 {\nbind 127.0.0.1\nsystem_key_auth {\nassertion AUDIENCE\n}\n}\n")
			err := caddy.Load([]byte(strings.Replace(string(config), `"AUDIENCE"`, test.audience, 1)), true)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			_ = caddy.Stop()
		})
	}
}
