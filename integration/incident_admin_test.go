package integration_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
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
		"iat": time.Now().Unix(), "jti": "1", "htm": "GET", "htu": p.url + keysPath, "label": "bot",
	}
	signed := func(kind string) string {
		segment := func(v any) string {
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			return base64.RawURLEncoding.EncodeToString(b)
		}
		input := segment(map[string]any{"alg": "EdDSA", "typ": kind, "kid": "k1"}) + "." + segment(claims)
		return input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(p.issuer.key, []byte(input)))
	}
	ways := map[string]func(string) func(*http.Request){
		"as the token of a person": func(s string) func(*http.Request) { return bearer("lm_" + s) },
		"as it is":                 bearer,
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
				c := &caller{plane: p, url: p.url, authorize: authorize(signed(kind))}
				c.call(t, http.MethodGet, keysPath, "").must(t, http.StatusUnauthorized, nil)
				c.call(t, http.MethodPost, keysPath, `{"label":"x"}`).must(t, http.StatusUnauthorized, nil)
				c.call(t, http.MethodPost, gqlPath, gql("{ adminSystemKeys { total } }")).must(t, http.StatusUnauthorized, nil)
			})
		}
	}
	// But for its type it is a good token.
	c := &caller{plane: p, url: p.url, authorize: bearer("lm_" + signed("JWT"))}
	c.call(t, http.MethodGet, keysPath, "").must(t, http.StatusOK, nil)
}

// TestIncidentCSRF has a browser that is signed in by basic_auth be made to send
// what a page of another site can, with and without the headers that newer ones
// add.
func TestIncidentCSRF(t *testing.T) {
	p := newPlane(t, onSQLite(t), "")
	ada := p.byName("ada")
	victim, _ := mint(t, p.keys, "victim")
	const create = `{"label":"ghost","is_system":true}`
	mutation := gql(`mutation { adminCreateSystemKey(input: {label: "ghost", isSystem: true}) { key } }`)
	for _, forged := range []struct {
		name         string
		method, path string
		body         string
		header       []string
	}{
		{"a form", "POST", keysPath, create, []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"a form with a file", "POST", keysPath, create, []string{"Content-Type", "multipart/form-data; boundary=x"}},
		{"plain text", "POST", keysPath, create, []string{"Content-Type", "text/plain"}},
		{"plain text that mentions JSON", "POST", keysPath, create, []string{"Content-Type", "text/plain; application/json"}},
		{"a body without a type", "POST", keysPath, create, []string{"Content-Type", ""}},
		{"fetch from another site", "POST", keysPath, create, []string{"Sec-Fetch-Site", "cross-site"}},
		{"fetch from a subdomain of the same site", "POST", keysPath, create, []string{"Sec-Fetch-Site", "same-site"}},
		{"an older browser", "POST", keysPath, create, []string{"Origin", "https://evil.example"}},
		{"a sandboxed frame", "POST", keysPath, create, []string{"Origin", "null"}},
		{"a deletion from another site", "DELETE", keysPath + "/" + victim.ID.String(), "", []string{"Sec-Fetch-Site", "cross-site"}},
		{"a deletion from an older browser", "DELETE", keysPath + "/" + victim.ID.String(), "", []string{"Origin", "https://evil.example"}},
		{"a form in the place of a deletion", "POST", keysPath + "/" + victim.ID.String(), "_method=DELETE", []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"a method in a header", "POST", keysPath + "/" + victim.ID.String(), "{}", []string{"X-Http-Method-Override", "DELETE"}},
		{"a mutation as plain text", "POST", gqlPath, mutation, []string{"Content-Type", "text/plain"}},
		{"a mutation as a form", "POST", gqlPath, mutation, []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"a mutation from another site", "POST", gqlPath, mutation, []string{"Sec-Fetch-Site", "cross-site"}},
		{"a mutation in an image", "GET", gqlPath + "?query=mutation%7BadminDeleteSystemKey(id%3A%22x%22)%7Bid%7D%7D", "", nil},
	} {
		t.Run(forged.name, func(t *testing.T) {
			a := ada.call(t, forged.method, forged.path, forged.body, forged.header...)
			if a.status != http.StatusForbidden && a.status != http.StatusUnsupportedMediaType && a.status != http.StatusMethodNotAllowed {
				t.Errorf("got %d %s", a.status, a.body)
			}
			if a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("another site may read it: %v", a.header)
			}
		})
	}
	page, err := p.keys.Store.Keys(t.Context(), &store.KeyQuery{Limit: 10, Sort: store.SortCreatedAt})
	if err != nil || page.Total != 1 {
		t.Errorf("there are %d keys, not 1: %v", page.Total, err)
	}
}

// TestIncidentDNSRebinding has a browser come by a name that points at this
// machine and is another's.
func TestIncidentDNSRebinding(t *testing.T) {
	b := onSQLite(t)
	p := &plane{keys: b.keys(t)}
	root := p.byKey(t, true)
	upstream := newRecorder(t)
	address := runForAnyHost(t, b, `
		system_keys_admin {
			allowed_hosts keys.example.com
			graphql_passthrough
		}
		reverse_proxy `+upstream.addr())
	root.url = "http://" + address
	key := &http.Request{Header: make(http.Header)}
	root.authorize(key)
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
			{"GET", keysPath, ""},
			{"GET", auditPath, ""},
			{"GET", keysPath + "/openapi.json", ""},
			{"POST", keysPath, `{"label":"x"}`},
			{"POST", gqlPath, gql("{ adminSystemKeys { total } }")},
			{"POST", gqlPath, gql("{ streams { id } }")},
		} {
			if status := send(c.method, c.path, host, c.body); status != http.StatusForbidden {
				t.Errorf("%s: %s %s %.40s got %d", host, c.method, c.path, c.body, status)
			}
		}
	}
	forwarded := []field{{"X-Forwarded-Host", "keys.example.com"}, {"Forwarded", "host=keys.example.com"}, {"X-Host", "keys.example.com"}}
	if status := send("GET", keysPath, "evil.example", "", forwarded...); status != http.StatusForbidden {
		t.Errorf("what a client says of another host got it %d", status)
	}
	// RFC 9112 section 3.2.2: the target decides, and Host is ignored.
	if status := send("GET", "http://evil.example"+keysPath, "keys.example.com", ""); status != http.StatusForbidden {
		t.Errorf("a target with another host got %d", status)
	}
	for _, host := range []string{"keys.example.com", "KEYS.example.com:8080", "keys.example.com."} {
		if status := send("GET", keysPath, host, ""); status != http.StatusOK {
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
