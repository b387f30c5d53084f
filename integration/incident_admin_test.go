package integration_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// TestIncidentAssertionReplay comes to the admin plane with what says who called,
// and is for upstreams. The worst case is that it was signed by the very key by
// which the plane knows its admins, for its audience, and says that its subject is
// one.
func TestIncidentAssertionReplay(t *testing.T) {
	p := newPlane(t, onSQLite(t), "")
	claims := map[string]any{
		"iss": "https://lumio.example", "aud": "lumio-admin", "sub": "u-17", "is_system": true,
		"permissions": []string{"system-keys:read", "system-keys:create"}, "exp": time.Now().Add(time.Minute).Unix(),
		"iat": time.Now().Unix(), "jti": "1", "htm": "GET", "htu": p.URL + plane.KeysPath, "label": "bot",
	}
	signed := func(kind string) string { return p.Issuer.Sign(kind, claims) }
	ways := map[string]func(string) func(*http.Request){
		"as the token of a person": func(s string) func(*http.Request) { return plane.Bearer("lm_" + s) },
		"as it is":                 plane.Bearer,
		"as the upstream gets it": func(s string) func(*http.Request) {
			return func(r *http.Request) { r.Header.Set("X-Lumio-Assertion", s) }
		},
		"beside the other headers": func(s string) func(*http.Request) {
			return func(r *http.Request) {
				r.Header.Set("X-Lumio-Assertion", s)
				r.Header.Set("X-Lumio-Auth-Type", "system_key")
				r.Header.Set("X-Lumio-Key-Id", "0197f000-0000-7000-8000-000000000000")
				r.Header.Set("X-Lumio-Permissions", "system-keys:read,system-keys:create")
			}
		},
	}
	for way, authorize := range ways {
		for _, kind := range []string{"lumio-key+jwt", "Lumio-Key+JWT", "application/lumio-key+jwt"} {
			t.Run(way+", "+kind, func(t *testing.T) {
				c := p.As(authorize(signed(kind)))
				c.Call(t, http.MethodGet, plane.KeysPath, "").Must(t, http.StatusUnauthorized, nil)
				c.Call(t, http.MethodPost, plane.KeysPath, `{"label":"x"}`).Must(t, http.StatusUnauthorized, nil)
				c.Call(t, http.MethodPost, admin.GraphQLPath, plane.GQL("{ adminSystemKeys { total } }")).Must(t, http.StatusUnauthorized, nil)
			})
		}
	}
	// But for its type it is a good token.
	c := p.As(plane.Bearer("lm_" + signed("JWT")))
	c.Call(t, http.MethodGet, plane.KeysPath, "").Must(t, http.StatusOK, nil)
}

// TestIncidentDNSRebinding has a browser come by a name that points at this
// machine and is another's.
func TestIncidentDNSRebinding(t *testing.T) {
	b := onSQLite(t)
	p := &plane.Plane{Keys: b.keys(t)}
	root := p.ByKey(t, true)
	upstream := newRecorder(t)
	address := runForAnyHost(t, b, `
		system_keys_admin {
			allowed_hosts keys.example.com
			graphql_passthrough
		}
		reverse_proxy `+upstream.addr())
	root.URL = "http://" + address
	key := &http.Request{Header: make(http.Header)}
	root.Authorize(key)
	authorization := field{"Authorization", key.Header.Get("Authorization")}
	send := func(method, target, host, body string, more ...field) int {
		conn := dial(t, address)
		lines := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n", method, target, host, len(body))
		for _, f := range append(more, authorization) {
			lines += f.name + ": " + f.value + "\r\n"
		}
		return talkHTTP1(t, conn, method, lines+"\r\n"+body).status
	}
	for _, host := range []string{
		"evil.example", "keys.example.com.evil.example", "evil-keys.example.com", "127.0.0.1", "localhost", "[::1]",
		"keys.example.com.evil.example:80", "keys.example.comx",
	} {
		for _, c := range []struct{ method, path, body string }{
			{"GET", plane.KeysPath, ""},
			{"GET", plane.AuditPath, ""},
			{"GET", plane.KeysPath + "/openapi.json", ""},
			{"POST", plane.KeysPath, `{"label":"x"}`},
			{"POST", admin.GraphQLPath, plane.GQL("{ adminSystemKeys { total } }")},
			{"POST", admin.GraphQLPath, plane.GQL("{ streams { id } }")},
		} {
			if status := send(c.method, c.path, host, c.body); status != http.StatusForbidden {
				t.Errorf("%s: %s %s %.40s got %d", host, c.method, c.path, c.body, status)
			}
		}
	}
	forwarded := []field{{"X-Forwarded-Host", "keys.example.com"}, {"Forwarded", "host=keys.example.com"}, {"X-Host", "keys.example.com"}}
	if status := send("GET", plane.KeysPath, "evil.example", "", forwarded...); status != http.StatusForbidden {
		t.Errorf("what a client says of another host got it %d", status)
	}
	// RFC 9112 section 3.2.2: the target decides, and Host is ignored.
	if status := send("GET", "http://evil.example"+plane.KeysPath, "keys.example.com", ""); status != http.StatusForbidden {
		t.Errorf("a target with another host got %d", status)
	}
	for _, host := range []string{"keys.example.com", "KEYS.example.com:8080", "keys.example.com."} {
		if status := send("GET", plane.KeysPath, host, ""); status != http.StatusOK {
			t.Errorf("%s got %d", host, status)
		}
	}
	upstream.nothing(t)
}

// runForAnyHost is run, for a site that answers whatever name a client has for it.
func runForAnyHost(tb testing.TB, b *backend, site string) string {
	tb.Helper()
	address := testenv.FreeAddress(tb)
	load(tb, globals(b.options+"\n"+cheap)+fmt.Sprintf("http://:%s {\nbind 127.0.0.1\n%s\n}\n", port(tb, address), site))
	return address
}
