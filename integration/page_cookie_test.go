package integration_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// TestTheCookieIsNobodyElsesBusiness: what is handed on does not have it.
func TestTheCookieIsNobodyElsesBusiness(t *testing.T) {
	const behind = "with a cookie alone, where a key is needed"
	for name, directives := range map[string]string{
		behind:                              "system_keys_admin\nsystem_key_auth",
		"behind the admin plane":            "system_keys_admin",
		"behind the check of keys":          "@v1 path /v1/* /system*\nsystem_keys_admin @v1\nsystem_key_auth {\npassthrough\n}",
		"behind both":                       "system_keys_admin\nsystem_key_auth {\npassthrough\n}",
		"on a document that goes elsewhere": "system_keys_admin {\ngraphql_passthrough\n}",
	} {
		t.Run(name, func(t *testing.T) {
			backend := onSQLite(t)
			site := &pageSite{keys: backend.keys(t)}
			_, plain := site.admin(t)
			site.url = "http://" + run(t, backend, directives+"\nreverse_proxy "+echo(t))
			v := plane.Visit(t, site.url)
			v.SignIn(plain)
			at, err := url.Parse(site.url)
			if err != nil {
				t.Fatal(err)
			}
			v.Client.Jar.SetCookies(at, []*http.Cookie{{Name: "theirs", Value: "1"}})
			a := v.Get("/x")
			if strings.Contains(name, "document") {
				a = v.Send(http.MethodPost, "/v1/gql", admin.MediaJSON, `{"query":"{me{name}}"}`)
			}
			if name == behind {
				a.Is(t, name, http.StatusUnauthorized, "unauthorized")
				return
			}
			if a.Status != http.StatusOK || !strings.Contains(a.Body, "Cookie: theirs=1") || strings.Contains(a.Body, "system_keys") {
				t.Errorf("the API saw %d %s", a.Status, a.Body)
			}
		})
	}
}

// TestTheCookieIsBoundToTheHostOverTLS, also where a proxy that is trusted has the
// TLS, and not where anybody says so.
func TestTheCookieIsBoundToTheHostOverTLS(t *testing.T) {
	backend := onSQLite(t)
	site := &pageSite{keys: backend.keys(t)}
	_, plain := site.admin(t)
	cert, key, pool := newCertificate(t)
	plainly, securely := testenv.FreeAddress(t), "localhost:"+port(t, testenv.FreeAddress(t))
	sites := fmt.Sprintf("http://%s {\nsystem_keys_admin\n}\nhttps://%s {\nbind 127.0.0.1\ntls %s %s\nsystem_keys_admin\n}", plainly, securely, cert, key)
	for trusted, proxied := range map[string]string{"127.0.0.1/32": "__Host-system_keys_session=", "192.0.2.1/32": "system_keys_session="} {
		options := globals(backend.options + "\n" + cheap)
		load(t, strings.Replace(options, "grace_period 1s", "grace_period 1s\nauto_https disable_redirects\nservers {\ntrusted_proxies static "+trusted+"\n}", 1)+sites)
		for name, c := range map[string]struct{ base, header, want string }{
			"without TLS":         {"http://" + plainly, "", "system_keys_session="},
			"with TLS":            {"https://" + securely, "", "__Host-system_keys_session="},
			"a proxy has the TLS": {"http://" + plainly, "https", proxied},
		} {
			v := plane.Visit(t, c.base)
			v.Client.Transport = &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
			if c.header != "" {
				v.Header.Set("X-Forwarded-Proto", c.header)
			}
			a := v.Post("/system/session", "key", plain)
			if cookie := a.Header.Get("Set-Cookie"); !strings.HasPrefix(cookie, c.want) ||
				strings.HasPrefix(c.want, "__Host-") != strings.Contains(cookie, "; Secure") {
				t.Errorf("%s, %s is trusted: %d %q", name, trusted, a.Status, cookie)
			}
		}
	}
}

// TestThePageIsWhereItIsWanted, or nowhere.
func TestThePageIsWhereItIsWanted(t *testing.T) {
	for name, c := range map[string]struct {
		option string
		want   map[string]int
	}{
		"by default": {"", map[string]int{"/system": 200, "/admin/keys": 418, "/api/system-keys": 401, "/System": 404, "/system/": 404}},
		"elsewhere":  {"ui /admin/keys", map[string]int{"/system": 418, "/admin/keys": 200, "/api/system-keys": 401, "/admin": 418}},
		"off":        {"ui off", map[string]int{"/system": 418, "/api/system-keys": 404, "/v1/admin/system-keys": 401}},
		"by host":    {"allowed_hosts keys.example.com", map[string]int{"/system": 403, "/api/system-keys": 403}},
	} {
		t.Run(name, func(t *testing.T) {
			url := "http://" + run(t, onSQLite(t), "system_keys_admin {\n"+c.option+"\n}\nrespond 418")
			for path, want := range c.want {
				if a := plane.Visit(t, url).Get(path); a.Status != want {
					t.Errorf("%s: got %d %s, want %d", path, a.Status, a.Body, want)
				}
			}
		})
	}
}
