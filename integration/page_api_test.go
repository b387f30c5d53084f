package integration_test

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// visitor is a browser without a window.
type visitor struct {
	t      *testing.T
	base   string
	client *http.Client
	// header is sent with every request.
	header http.Header
}

func visit(t *testing.T, base string) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{
		Jar: jar, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &visitor{t: t, base: base, client: client, header: http.Header{}}
}

func (v *visitor) send(method, path, mediaType, body string, header ...string) reply {
	v.t.Helper()
	request, err := http.NewRequestWithContext(v.t.Context(), method, v.base+path, strings.NewReader(body))
	if err != nil {
		v.t.Fatal(err)
	}
	maps.Copy(request.Header, v.header)
	if mediaType != "" {
		request.Header.Set("Content-Type", mediaType)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			request.Host = header[i+1]
		}
	}
	response, err := v.client.Do(request)
	if err != nil {
		v.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return reply{response.StatusCode, response.Header, string(text)}
}

func (v *visitor) get(path string, header ...string) reply {
	v.t.Helper()
	return v.send(http.MethodGet, path, "", "", header...)
}

// post sends a form; the fields are pairs of names and values.
func (v *visitor) post(path string, fields ...string) reply {
	v.t.Helper()
	return v.postWith(nil, path, fields...)
}

func (v *visitor) postWith(header []string, path string, fields ...string) reply {
	v.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	return v.send(http.MethodPost, path, "application/x-www-form-urlencoded", form.Encode(), header...)
}

// nonce is that of the form that is sent to a path.
func (a reply) nonce(t *testing.T, action string) string {
	t.Helper()
	_, form, found := strings.Cut(a.body, `action="`+action+`"`)
	_, value, ok := strings.Cut(form, `name="nonce" value="`)
	if !found || !ok {
		t.Fatalf("no form for %s in %d %s", action, a.status, a.body)
	}
	value, _, _ = strings.Cut(value, `"`)
	return value
}

// is fails unless the status is the one and the text is in the body.
func (a reply) is(t *testing.T, what string, status int, text string) reply {
	t.Helper()
	if a.status != status || !strings.Contains(a.body, text) {
		t.Errorf("%s: got %d %s, want %d with %q", what, a.status, a.body, status, text)
	}
	return a
}

// signIn signs in with a key, and returns the page.
func (v *visitor) signIn(key string) reply {
	v.t.Helper()
	if a := v.post("/system/session", "key", key); a.status != http.StatusSeeOther || a.header.Get("Location") != "/system" {
		v.t.Fatalf("sign-in got %d %s", a.status, a.body)
	}
	return v.get("/system").is(v.t, "the page", http.StatusOK, "System API Keys")
}

const mediaJSON = "application/json"

// TestThePagesAPISaysTheSame compares /api/system-keys with /v1/admin/system-keys.
func TestThePagesAPISaysTheSame(t *testing.T) {
	site := newPageSite(t, onSQLite(t), "")
	key, plain := site.admin(t)
	bot, _ := mint(t, site.keys, "bot", "bots:read")
	v := visit(t, site.url)
	v.signIn(plain)
	robot := &caller{plane: &plane{}, url: site.url, authorize: bearer(plain)}

	for _, path := range []string{"", "?limit=1&sort=label", "/" + bot.ID.String(), "/" + key.ID.String()[:35] + "x", "?limit=0"} {
		theirs, ours := robot.call(t, http.MethodGet, "/v1/admin/system-keys"+path, ""), v.get("/api/system-keys"+path)
		if diff := cmp.Diff(anonymous(theirs.body), anonymous(ours.body)); diff != "" || theirs.status != ours.status {
			t.Errorf("GET %s: %d and %d (-v1 +api):\n%s", path, theirs.status, ours.status, diff)
		}
	}

	var created oneKey
	v.send(http.MethodPost, "/api/system-keys", mediaJSON, `{"label":"by script"}`).must(t, http.StatusCreated, &created)
	if !keyPattern.MatchString(created.Data.Key) || created.Links.Self.Href != "/v1/admin/system-keys/"+created.Data.ID.String() {
		t.Errorf("created %+v", created)
	}
	v.send(http.MethodPost, "/api/system-keys", mediaJSON, `{"label":""}`).is(t, "no label", http.StatusUnprocessableEntity, "validation_failed")
	var revoked oneRevoked
	v.send(http.MethodDelete, "/api/system-keys/"+created.Data.ID.String(), "", "").must(t, http.StatusOK, &revoked)
	if revoked.Data.Instances.Total != 1 || revoked.Data.Instances.Acknowledged != 1 {
		t.Errorf("revoked %+v", revoked)
	}

	// The cookie is for the page alone.
	v.get("/v1/admin/system-keys").is(t, "/v1 by cookie", http.StatusUnauthorized, "unauthorized")
	v.send(http.MethodPost, "/v1/gql", mediaJSON, `{"query":"{adminSystemKeys{total}}"}`).is(t, "GraphQL by cookie", http.StatusUnauthorized, "unauthorized")
	v.get("/hello").is(t, "the API by cookie", http.StatusUnauthorized, "unauthorized")
	visit(t, site.url).get("/api/system-keys").is(t, "nobody", http.StatusUnauthorized, "unauthorized")
}

// anonymous is an answer without what differs from one request to the next.
func anonymous(body string) string {
	return regexp.MustCompile(`"(request_id|last_used_at)":("[^"]*"|null)`).ReplaceAllString(body, "")
}

// TestANonceIsGoodForOnce, for one session and one admin.
func TestANonceIsGoodForOnce(t *testing.T) {
	for _, backend := range backends(t) {
		t.Run(backend.name, func(t *testing.T) {
			site := newPageSite(t, backend, "")
			_, plain := site.admin(t)
			v := visit(t, site.url)
			v.signIn(plain)
			nonce := v.get("/system/create").nonce(t, "/api/system-keys")
			v.post("/api/system-keys", "nonce", nonce, "label", "\x01").is(t, "a mistake", http.StatusUnprocessableEntity, "1 to 100 characters")
			v.post("/api/system-keys", "nonce", nonce, "label", "first").is(t, "the same nonce after the mistake", http.StatusCreated, "lm_sys_")
			v.post("/api/system-keys", "nonce", nonce, "label", "second").is(t, "the same nonce again", http.StatusConflict, "sent before")
			another := visit(t, site.url)
			another.signIn(plain)
			fresh := v.get("/system/create").nonce(t, "/api/system-keys")
			another.post("/api/system-keys", "nonce", fresh, "label", "third").is(t, "of another session", http.StatusForbidden, "Open the form again")
			page, err := site.keys.List(t.Context(), admin.CLI(), &store.KeyQuery{Limit: 100, Sort: store.SortLabel})
			if err != nil || page.Total != 2 {
				t.Errorf("there are %d keys (%v), want 2", page.Total, err)
			}
		})
	}
}

// TestWhatAnotherSiteMakesABrowserSendIsRefused on every form of the page.
func TestWhatAnotherSiteMakesABrowserSendIsRefused(t *testing.T) {
	site := newPageSite(t, onSQLite(t), "")
	_, plain := site.admin(t)
	bot, _ := mint(t, site.keys, "bot")
	v := visit(t, site.url)
	home := v.signIn(plain)
	create := v.get("/system/create").nonce(t, "/api/system-keys")
	revoke := "/api/system-keys/" + bot.ID.String() + "/revoke"
	ask := v.get("/system/keys/"+bot.ID.String()+"/revoke").nonce(t, revoke)
	for name, form := range map[string][]string{
		"sign in":  {"/system/session", "key", plain},
		"sign out": {"/system/session/end", "nonce", home.nonce(t, "/system/session/end")},
		"create":   {"/api/system-keys", "nonce", create, "label", "forged"},
		"revoke":   {revoke, "nonce", ask},
	} {
		for _, header := range [][]string{
			{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
		} {
			if a := v.postWith(header, form[0], form[1:]...); a.status != http.StatusForbidden || len(a.header["Set-Cookie"]) > 0 {
				t.Errorf("%s with %v: got %d", name, header, a.status)
			}
		}
	}
	v.get("/system").is(t, "still signed in", http.StatusOK, "2 key(s)")
}

// TestForgedCallsOfThePagesAPIAreRefused sends what a page of another site can make a
// browser send to /api/system-keys, with the cookie of an admin who is signed in.
// SameSite would keep the cookie back: here it comes all the same.
func TestForgedCallsOfThePagesAPIAreRefused(t *testing.T) {
	site := newPageSite(t, onSQLite(t), "")
	_, plain := site.admin(t)
	bot, _ := mint(t, site.keys, "bot")
	v := visit(t, site.url)
	v.signIn(plain)
	const keys, body, form = "/api/system-keys", `{"label":"forged","is_system":true}`, "application/x-www-form-urlencoded"
	key := keys + "/" + bot.ID.String()
	for name, header := range map[string][]string{
		"another site": {"Sec-Fetch-Site", "cross-site"}, "a subdomain of the same site": {"Sec-Fetch-Site", "same-site"},
		"an older browser": {"Origin", "https://evil.example"}, "a sandboxed frame": {"Origin", "null"},
		"another port of this host": {"Origin", "http://127.0.0.1:1"},
	} {
		v.send(http.MethodPost, keys, mediaJSON, body, header...).is(t, "JSON from "+name, http.StatusForbidden, "cross_origin")
		v.send(http.MethodDelete, key, "", "", header...).is(t, "a deletion from "+name, http.StatusForbidden, "cross_origin")
	}
	// A browser that sends none of these fields sends no other types without asking
	// first. Nobody answers that question.
	for _, mediaType := range []string{"text/plain", "text/plain; application/json", "multipart/form-data; boundary=x", ""} {
		v.send(http.MethodPost, keys, mediaType, body).is(t, "JSON as "+mediaType, http.StatusUnsupportedMediaType, "unsupported_media_type")
	}
	v.post(keys, "label", "forged").is(t, "a form without a nonce", http.StatusForbidden, "Open the form again")
	v.send(http.MethodPost, key, form, "_method=DELETE").is(t, "a form in the place of a deletion", http.StatusMethodNotAllowed, "method_not_allowed")
	for _, path := range []string{keys, key} {
		for _, method := range []string{http.MethodPost, http.MethodDelete} {
			a := v.send(http.MethodOptions, path, mediaJSON, "", "Origin", "https://evil.example", "Access-Control-Request-Method", method)
			if a.status < 400 || a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("a preflight for %s %s: got %d %v", method, path, a.status, a.header)
			}
		}
	}
	page, err := site.keys.List(t.Context(), admin.CLI(), &store.KeyQuery{Limit: 100, Sort: store.SortLabel})
	if err != nil || page.Total != 2 {
		t.Errorf("there are %d keys (%v), want 2", page.Total, err)
	}
}

// TestASessionEnds by sign-out, with its key, and when the key expires or is
// replaced; whatever the browser still sends.
func TestASessionEnds(t *testing.T) {
	for name, test := range map[string]struct {
		on  func(tb testing.TB) *backend
		end func(t *testing.T, b *backend, s *pageSite, key *store.Key, v *visitor)
	}{
		"by sign-out": {onSQLite, func(t *testing.T, _ *backend, _ *pageSite, _ *store.Key, v *visitor) {
			v.post("/system/session/end", "nonce", v.get("/system").nonce(t, "/system/session/end")).is(t, "sign-out", http.StatusOK, "signed out")
		}},
		"by the next sign-in": {onSQLite, func(t *testing.T, _ *backend, s *pageSite, _ *store.Key, v *visitor) {
			_, other := s.admin(t)
			v.signIn(other)
		}},
		"with its key": {onSQLite, func(t *testing.T, _ *backend, s *pageSite, key *store.Key, _ *visitor) { s.revoke(t, key) }},
		"with its key, by plain SQL": {onPostgres, func(t *testing.T, b *backend, _ *pageSite, _ *store.Key, _ *visitor) {
			runSQL(t, b, "DELETE FROM system_keys")
		}},
		"when its key expires": {onPostgres, func(t *testing.T, b *backend, _ *pageSite, _ *store.Key, _ *visitor) {
			runSQL(t, b, "UPDATE system_keys SET expires_at = now()")
		}},
		"when its key is another": {onPostgres, func(t *testing.T, b *backend, s *pageSite, key *store.Key, _ *visitor) {
			hash, err := s.keys.Hash(t.Context(), "another")
			if err != nil {
				t.Fatal(err)
			}
			runSQL(t, b, fmt.Sprintf("UPDATE system_keys SET key_hash = '%s' WHERE id = '%s'", string(hash), key.ID))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			backend := test.on(t)
			site := newPageSite(t, backend, "")
			key, plain := site.admin(t)
			v := visit(t, site.url)
			v.signIn(plain)
			at, err := url.Parse(site.url)
			if err != nil {
				t.Fatal(err)
			}
			stolen := visit(t, site.url)
			stolen.client.Jar.SetCookies(at, v.client.Jar.Cookies(at))
			stolen.get("/api/system-keys").is(t, "before", http.StatusOK, "Ada")
			test.end(t, backend, site, key, v)
			stolen.send(http.MethodPost, "/api/system-keys", mediaJSON, `{"label":"late"}`).
				is(t, "a write", http.StatusUnauthorized, "unauthorized")
			stolen.get("/api/system-keys").is(t, "a read", http.StatusUnauthorized, "unauthorized")
			a := stolen.get("/system").is(t, "the page", http.StatusOK, "Your session has ended")
			if cookie := a.header.Get("Set-Cookie"); !strings.Contains(cookie, "Max-Age=0") {
				t.Errorf("the cookie stays: %q", cookie)
			}
		})
	}
}

// TestTheCookieIsNobodyElsesBusiness: what is handed on does not have it.
func TestTheCookieIsNobodyElsesBusiness(t *testing.T) {
	for name, directives := range map[string]string{
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
			v := visit(t, site.url)
			v.signIn(plain)
			at, err := url.Parse(site.url)
			if err != nil {
				t.Fatal(err)
			}
			v.client.Jar.SetCookies(at, []*http.Cookie{{Name: "theirs", Value: "1"}})
			a := v.get("/x")
			if strings.Contains(name, "document") {
				a = v.send(http.MethodPost, "/v1/gql", mediaJSON, `{"query":"{me{name}}"}`)
			}
			if a.status != http.StatusOK || !strings.Contains(a.body, "Cookie: theirs=1") || strings.Contains(a.body, "system_keys") {
				t.Errorf("the API saw %d %s", a.status, a.body)
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
			v := visit(t, c.base)
			v.client.Transport = &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
			if c.header != "" {
				v.header.Set("X-Forwarded-Proto", c.header)
			}
			a := v.post("/system/session", "key", plain)
			if cookie := a.header.Get("Set-Cookie"); !strings.HasPrefix(cookie, c.want) ||
				strings.HasPrefix(c.want, "__Host-") != strings.Contains(cookie, "; Secure") {
				t.Errorf("%s, %s is trusted: %d %q", name, trusted, a.status, cookie)
			}
		}
	}
}

// TestThePageSaysWhatABrowserMayDoWithIt in every answer.
func TestThePageSaysWhatABrowserMayDoWithIt(t *testing.T) {
	site := newPageSite(t, onSQLite(t), "")
	_, plain := site.admin(t)
	v := visit(t, site.url)
	before := v.get("/system")
	asset := regexp.MustCompile(`/system/assets/app\.[0-9a-f]+\.js`).FindString(before.body)
	home := v.signIn(plain)
	for name, a := range map[string]reply{
		"sign-in": before, "the page": home, "a script": v.get(asset), "a form": v.get("/system/create"), "nothing": v.get("/system/x"),
		"a wrong key": v.post("/system/session", "key", "x"), "a forged form": v.post("/api/system-keys", "label", "x"),
		"a language": v.get("/system?lang=de"), "a wrong method": v.send(http.MethodPut, "/system", "", ""),
		"from elsewhere": visit(t, site.url).get("/system", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"),
	} {
		csp := a.header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'; script-src 'self'; style-src 'self'") || strings.Contains(csp, "unsafe") ||
			!strings.Contains(csp, "frame-ancestors 'none'") || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", name, a.status, a.header)
		}
		if cache := a.header.Get("Cache-Control"); name != "a script" && cache != "no-store" {
			t.Errorf("%s may be kept: %q", name, cache)
		}
	}
}

// TestAdminsSignInByThemselves whom the request itself names, and may use forms.
func TestAdminsSignInByThemselves(t *testing.T) {
	p := newPlane(t, onSQLite(t), "")
	for name, c := range map[string]struct {
		header http.Header
		base   string
		status int
		shows  string
	}{
		"a system admin by token": {http.Header{"Authorization": {"Bearer lm_" + p.issuer.token(map[string]any{"sub": "u-17", "name": "Grace", "is_system": true})}}, p.url, 201, "Signed in as Grace"},
		"a system admin by name":  {http.Header{"Authorization": {"Basic " + basic("ada")}}, p.trusting, 201, "Signed in as ada"},
		"a person without access": {http.Header{"Authorization": {"Basic " + basic("bob")}}, p.trusting, 403, "admin:access"},
		"a bad token":             {http.Header{"Authorization": {"Bearer lm_eyJ"}}, p.url, 401, "not valid"},
	} {
		t.Run(name, func(t *testing.T) {
			v := visit(t, c.base)
			v.header = c.header
			home := v.get("/system")
			if !strings.Contains(home.body, c.shows) {
				t.Fatalf("the page is %d %s", home.status, home.body)
			}
			if c.status != http.StatusCreated {
				if home.status != c.status {
					t.Errorf("got %d, want %d", home.status, c.status)
				}
				return
			}
			if strings.Contains(home.body, "Sign out") {
				t.Error("there is nothing to sign out of")
			}
			nonce := v.get("/system/create").nonce(t, "/api/system-keys")
			v.post("/api/system-keys", "nonce", nonce, "label", "by form").is(t, "create", http.StatusCreated, "lm_sys_")
			other := visit(t, c.base) // another browser of the same admin
			other.header = c.header
			other.get("/system")
			nonce = v.get("/system/create").nonce(t, "/api/system-keys")
			other.post("/api/system-keys", "nonce", nonce, "label", "x").is(t, "of another browser", http.StatusForbidden, "Open the form again")
		})
	}
}

// TestTheFormsGrantNoMoreThanTheAdminHolds, and suggest no more.
func TestTheFormsGrantNoMoreThanTheAdminHolds(t *testing.T) {
	site := newPageSite(t, onSQLite(t), "")
	mint(t, site.keys, "other", "users:delete", "bots:read")
	_, plain := mint(t, site.keys, "admin", admin.PermissionAccess, admin.PermissionCreate, "bots:read")
	v := visit(t, site.url)
	if a := v.post("/system/session", "key", plain); a.status != http.StatusSeeOther {
		t.Fatalf("sign-in got %d", a.status)
	}
	form := v.get("/system/create")
	suggested := regexp.MustCompile(`data-suggest="([^"]+)"`).FindAllStringSubmatch(form.body, -1)
	var got []string
	for _, s := range suggested {
		got = append(got, s[1])
	}
	if want := []string{"admin:access", "bots:read", "system-keys:create"}; !slices.Equal(got, want) {
		t.Errorf("suggested are %q, want %q", got, want)
	}
	if strings.Contains(form.body, "is_system") {
		t.Error("the form offers to make a system admin")
	}
	nonce := form.nonce(t, "/api/system-keys")
	v.post("/api/system-keys", "nonce", nonce, "label", "x", "permissions", "users:delete").is(t, "more", http.StatusForbidden, "that you hold yourself")
	v.post("/api/system-keys", "nonce", nonce, "label", "x", "is_system", "true").is(t, "all", http.StatusForbidden, "that you hold yourself")
	v.post("/api/system-keys", "nonce", nonce, "label", "x", "permissions", "Bots").is(t, "no permission", http.StatusUnprocessableEntity, "resource:action")
	v.post("/api/system-keys", "nonce", nonce, "label", "x", "expires_on", "2020-01-01").is(t, "a day that is over", http.StatusUnprocessableEntity, "today or later")
	v.post("/api/system-keys", "nonce", nonce, "label", "x", "label", "y").is(t, "a field twice", http.StatusBadRequest, "cannot be understood")
	v.post("/api/system-keys", "nonce", nonce, "label", "x", "permissions", "bots:read\nbots:read,", "expires_on", "2030-06-01").
		is(t, "no more than that", http.StatusCreated, "lm_sys_")
	page, err := site.keys.List(t.Context(), admin.CLI(), &store.KeyQuery{Limit: 1, Sort: store.SortCreatedAt, Desc: true})
	if err != nil || page.Total != 3 || page.Keys[0].ExpiresAt.String() != "2030-06-02 00:00:00 +0000 UTC" || !slices.Equal(page.Keys[0].Permissions, []string{"bots:read"}) {
		t.Errorf("created %+v (%v)", page.Keys, err)
	}
}

// basic are the credentials of somebody whom basic_auth knows.
func basic(name string) string {
	return base64.StdEncoding.EncodeToString([]byte(name + ":" + password))
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
				if a := visit(t, url).get(path); a.status != want {
					t.Errorf("%s: got %d %s, want %d", path, a.status, a.body, want)
				}
			}
		})
	}
}

// TestSignInTakesLiveKeysAlone and says no more of others than that.
func TestSignInTakesLiveKeysAlone(t *testing.T) {
	site := newPageSite(t, onSQLite(t), "")
	gone, revoked := site.admin(t)
	site.revoke(t, gone)
	var answers []string
	for name, key := range map[string]string{
		"none": "", "no key": "hunter2", "unminted": "lm_sys_" + strings.Repeat("0", 76), "revoked": revoked, "a token": "lm_eyJ",
		"two": revoked + " " + revoked,
	} {
		a := visit(t, site.url).post("/system/session", "key", key).is(t, name, http.StatusUnauthorized, "This key is not valid.")
		if len(a.header["Set-Cookie"]) > 0 || strings.Contains(a.body, "lm_sys_0") {
			t.Errorf("%s: got %v %s", name, a.header, a.body)
		}
		answers = append(answers, a.body)
	}
	if slices.Sort(answers); len(slices.Compact(answers)) != 1 {
		t.Error("the answers differ")
	}
	visit(t, site.url).send(http.MethodPost, "/system/session", mediaJSON, `{"key":"x"}`).is(t, "JSON", http.StatusUnsupportedMediaType, "cannot be understood")
}
