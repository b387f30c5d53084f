package integration_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
)

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
			err := tryLoad(t, []byte(strings.Replace(string(config), `"AUDIENCE"`, test.audience, 1)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			_ = caddy.Stop()
		})
	}
}
