package integration_test

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// surfaces are the parts of the product, and what makes each say as much as it
// can. A new one is one more line here.
var surfaces = []struct {
	name string
	use  func(t *testing.T, p *product)
}{
	{"the proxy", useProxy},
	{"the REST API", useREST},
	{"GraphQL", useGraphQL},
	{"the System page", usePage},
	{"keys in the wrong place", misplaceKeys},
	{"people", usePeople},
	{"the command line", useCommands},
	{"Caddy's admin endpoint", useControl},
	{"a database that is gone", loseDatabase},
}

// TestSecretsAreNowhere runs the whole product as a process of its own, uses all
// of it, and looks through everything it wrote, logs of every level, traces,
// metrics, answers, files, for what it has to keep to itself.
func TestSecretsAreNowhere(t *testing.T) {
	p := startProduct(t)
	for _, s := range surfaces {
		s.use(t, p)
	}
	p.stop() // which writes what is still to be written
	p.files()

	p.mu.Lock()
	defer p.mu.Unlock()
	for who, output := range p.wrote {
		for name, secret := range p.secrets {
			if at := leaks(output, secret); at != "" {
				t.Errorf("%s: %s is in\n%s", who, name, at)
			}
		}
	}
	// It did say something, everywhere.
	for who, what := range map[string]string{
		"the server": p.liveID, "the answers": `"code":"invalid_token"`, "traces": "argon2id verify", "Caddy's /metrics": "caddy_system_keys_decisions_total",
		"Caddy's /system_keys/status": `"standing":"cached"`, "Caddy's /system_keys/ready": `"ready":true`,
		"Caddy's /config/": "system_key_auth", "Caddy's /debug/pprof/goroutine?debug=2": "goroutine ", "system-keys list": "bot",
	} {
		if !bytes.Contains(p.wrote[who], []byte(what)) {
			t.Errorf("%s does not say %q: %.2000q", who, what, p.wrote[who])
		}
	}
	for _, what := range []string{"panic", `"level":"debug"`, "trace", "dial tcp 127.0.0.1:1", "requests get 503", "admin call failed"} {
		if !bytes.Contains(p.wrote["the server"], []byte(what)) {
			t.Errorf("the server does not say %q", what)
		}
	}
}

// attemptsOf are credentials, good and broken.
func attemptsOf(p *product) []string {
	return []string{
		"", "Bearer " + p.live, "Bearer " + p.revoked, "Bearer " + p.root, "Bearer " + p.live + "x", "Bearer " + p.live[:82], "bearer  " + p.live,
		"Token " + p.live, p.live, "Basic " + p.live, "Bearer " + p.live + " " + p.root, "Digest username=\"" + p.live + "\"", "Bearer " + strings.ToUpper(p.live),
	}
}

func useProxy(_ *testing.T, p *product) {
	for _, address := range []string{p.site, p.routed} {
		for _, authorization := range attemptsOf(p) {
			for _, target := range []string{"/", "/strict", "/down", "/panic"} {
				p.call(http.MethodGet, address, target, authorization, "")
			}
			p.call(http.MethodPost, address, "/", authorization, `{"a":1}`, "Connection", "X-Lumio-Key-Id", "X-Lumio-Key-Id", "forged")
		}
		p.call(http.MethodGet, address, "/?token="+p.live, "", "")
		p.call(http.MethodGet, address, "/?a=1&token="+p.live, "Bearer "+p.live, "", "Referer", "http://h/?token="+p.live)
		p.call(http.MethodGet, address, "/", "Bearer "+p.live, "", "Connection", "Upgrade", "Upgrade", "foo")
	}
}

func useREST(_ *testing.T, p *product) {
	for _, authorization := range attemptsOf(p) {
		for _, path := range []string{plane.KeysPath, plane.KeysPath + "/" + p.liveID, plane.AuditPath, plane.KeysPath + "?limit=1&sort=-label", plane.OpenAPIPath, plane.KeysPath + "/"} {
			p.call(http.MethodGet, p.site, path, authorization, "")
		}
		p.call(http.MethodPost, p.site, plane.KeysPath, authorization, `{"label":""}`)
		p.call(http.MethodPost, p.site, plane.KeysPath, authorization, `{"label":`)
		p.call(http.MethodDelete, p.site, plane.NobodyPath, authorization, "")
	}
	p.call(http.MethodPost, p.site, plane.KeysPath, "Bearer "+p.root, `{"label":"new","permissions":["bots:read"]}`)
	p.call(http.MethodGet, p.routed, plane.KeysPath, "Bearer "+p.root, "")
}

func useGraphQL(_ *testing.T, p *product) {
	for _, authorization := range attemptsOf(p) {
		for _, query := range []string{
			"{ adminSystemKeys { total data { id label } } }", "{ adminAuditLog { total data { details actor { id } } } }", "{ nothing }", "{",
			"{ __schema { types { name } } }", `mutation { adminDeleteSystemKey(id: "x") { id } }`,
		} {
			p.call(http.MethodPost, p.site, admin.GraphQLPath, authorization, plane.GQL(query))
		}
	}
	p.call(http.MethodPost, p.site, admin.GraphQLPath, "Bearer "+p.root, plane.GQL(`mutation { created: adminCreateSystemKey(input: {label: "new"}) { key } }`))
}

// misplaceKeys has clients put a key where it does not belong. Nothing of that may
// come back, to whomever answers are shown, or get into any log. (Caddy puts paths and
// user agents into traces, so those are sent to the site that has none.)
func misplaceKeys(t *testing.T, p *product) {
	root := "Bearer " + p.root
	for _, key := range []string{p.live, "%6cm_sys_" + p.live[7:]} {
		basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+key))
		p.call(http.MethodGet, p.routed, "/?api_key="+key, "", "")
		p.call(http.MethodGet, p.routed, "/panic", basic, "")
		for _, field := range []string{"X-Api-Key", "Cookie", "User-Agent", "Referer", "Sec-WebSocket-Protocol", "X-Forwarded-Authorization"} {
			p.call(http.MethodGet, p.routed, "/panic", root, "", field, key)
			p.call(http.MethodGet, p.routed, "/", "", "", field, basic)
		}
		p.call(http.MethodPost, p.site, plane.KeysPath, root, `{"label":"`+key+`"}`)
	}
	for _, target := range []string{
		"/" + p.live, "/lm%5fsys_" + p.live[7:], plane.KeysPath + "/" + p.live, plane.KeysPath + "?" + p.live + "=1", plane.KeysPath + "?cursor=" + p.live, plane.KeysPath + "?sort=" + p.live,
		plane.KeysPath + "?limit=" + p.live, plane.AuditPath + "?key_id=" + p.live, plane.AuditPath + "?event=" + p.live, plane.AuditPath + "?since=" + p.live,
		plane.KeysPath + "?limit=1&" + p.live, admin.GraphQLPath + "?query=" + p.live,
	} {
		p.call(http.MethodGet, p.routed, target, root, "")
		p.call(http.MethodPost, p.routed, target, root, "{}")
	}
	for _, body := range []string{
		`{"` + p.live + `":1}`, `{"label":1,"` + p.live + `":1}`, `{"label":"x","permissions":["` + p.live + `"]}`, `{"label":"x","expires_at":"` + p.live + `"}`,
		`{"label":"x","` + p.live + `":1,"` + p.live + `":1}`, p.live, `"` + p.live + `"`, `{"label":"x","label":"` + p.live + `"}`, `{"label":"x"}` + p.live,
	} {
		p.call(http.MethodPost, p.site, plane.KeysPath, root, body)
	}
	for _, query := range []string{
		"{ " + p.live + " }", "{ ..." + p.live + " }", "fragment " + p.live + " on Query { a } fragment " + p.live + " on Query { a } { a }", `{ adminSystemKeys(q: "` + p.live,
		"{ adminSystemKeys(" + p.live + ": 1) { total } }", "{ adminSystemKeys { " + p.live + " } }", "query " + p.live + " { " + p.live + " }",
		`{ adminSystemKeys(sort: "` + p.live + `") { total } }`, `mutation { adminDeleteSystemKey(id: "` + p.live + `") { id } }`,
		"query ($" + p.live + ": Int!) { adminSystemKeys(limit: $" + p.live + ") { total } }",
	} {
		p.call(http.MethodPost, p.site, admin.GraphQLPath, root, plane.GQL(query))
	}
	for _, body := range []string{`{"` + p.live + `":1}`, plane.GQL("{ adminSystemKeys { total } }", `,"operationName":"`+p.live+`"`), plane.GQL("{ adminSystemKeys { total } }", `,"variables":"`+p.live+`"`)} {
		p.call(http.MethodPost, p.site, admin.GraphQLPath, root, body)
	}
	eventually(t, "what was asked for is on record, and no key", func() bool {
		return strings.Contains(p.call(http.MethodGet, p.site, plane.AuditPath+"?limit=100", root, "").Body, `"path":"/REDACTED"`)
	})
}

// usePage signs in with keys of every kind, and sends what belongs into no form.
func usePage(t *testing.T, p *product) {
	form := func(path, cookie string, fields url.Values) plane.Reply {
		return p.call(http.MethodPost, p.site, path, "", fields.Encode(), "Content-Type", "application/x-www-form-urlencoded", "Cookie", cookie)
	}
	for _, key := range []string{p.live, p.revoked, p.root + "x", "", p.live + " " + p.root} {
		form("/system/session", "", url.Values{"key": {key}})
		form("/system/session", "", url.Values{"key": {key}, key: {"x"}})
	}
	a := form("/system/session", "", url.Values{"key": {p.root}})
	if a.Status != http.StatusSeeOther {
		t.Fatalf("sign-in got %d", a.Status)
	}
	cookie, _, _ := strings.Cut(a.Header.Get("Set-Cookie"), ";")
	for _, path := range []string{
		"/system", "/system/create", "/system/keys/" + p.liveID + "/revoke", "/api/system-keys", "/system?activity=" + p.liveID,
		"/panic", "/down", "/",
	} {
		p.call(http.MethodGet, p.site, path, "", "", "Cookie", cookie)
	}
	for _, path := range []string{"/system?q=" + p.live, "/system/keys/" + p.live + "/revoke", "/system?sort=" + p.live} {
		p.call(http.MethodGet, p.routed, path, "", "", "Cookie", cookie)
	}
	nonce := func() string {
		return p.call(http.MethodGet, p.site, "/system/create", "", "", "Cookie", cookie).Nonce(t, "/api/system-keys")
	}
	form("/api/system-keys", cookie, url.Values{"nonce": {nonce()}, "label": {p.live}})
	form("/api/system-keys", cookie, url.Values{"nonce": {p.live}, "label": {"x"}})
	if a := form("/api/system-keys", cookie, url.Values{"nonce": {nonce()}, "label": {"by form"}, "permissions": {"bots:read"}}); a.Status != http.StatusCreated {
		t.Fatalf("create got %d", a.Status)
	}
	form("/api/system-keys/"+p.liveID+"/revoke", cookie, url.Values{"nonce": {nonce()}, "confirm": {p.live}})
}

func usePeople(_ *testing.T, p *product) {
	token := p.people.Token(map[string]any{"sub": "u-17", "is_system": true})
	p.secrets["a person's token"] = token
	for _, authorization := range []string{"Bearer lm_" + token, "Bearer lm_" + token + "x", "Bearer lm_" + token[:40], "Bearer " + token} {
		p.call(http.MethodGet, p.site, plane.KeysPath, authorization, "")
		p.call(http.MethodGet, p.site, "/", authorization, "")
	}
}

func useCommands(t *testing.T, p *product) {
	password := p.secrets["the DSN's password"]
	for _, args := range [][]string{
		{"list"},
		{"list", "--json"},
		{"list", "--store", "{env.DSN}"},
		{"status"},
		{"audit", "--json"},
		{"audit", "--verify"},
		{"migrate"},
		{"revoke", plane.NobodyPath[len(plane.KeysPath)+1:], "--yes"},
		{"revoke", p.live, "--yes"},
		{"list", "--sort", p.live},
		{"list", "--store", "{env.NOTHING}"},
		{"list", "--store", "postgres://u:" + password + "@127.0.0.1:1/x"},
		{"list", "--store", "postgres://127.0.0.1:1/x?password=" + password},
		{"list", "--store", "postgres://u:" + password + "@[::1/x"},
		{"create", "--label", ""},
	} {
		cmd := p.command(t.Context(), append([]string{"system-keys"}, args...)...)
		output, _ := cmd.CombinedOutput() // some are to fail
		p.record("system-keys "+args[0], output)
	}
	cmd := p.command(t.Context(), "system-keys", "create", "--label", "from the command line")
	cmd.Stderr = writer{p, "system-keys create"}
	key, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	p.secrets["the key of the command line"] = strings.TrimSpace(string(key))
	for _, args := range [][]string{{"adapt", "--config", p.config}, {"validate", "--config", p.config}} {
		output, _ := p.command(t.Context(), args...).CombinedOutput()
		p.record("caddy "+args[0], output)
	}
}

// useControl reads everything that Caddy's own admin endpoint shows.
func useControl(_ *testing.T, p *product) {
	for _, path := range []string{
		"/config/", "/metrics", "/reverse_proxy/upstreams", "/debug/vars", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2", "/debug/pprof/goroutine?debug=1",
		"/debug/pprof/heap?debug=1", "/debug/pprof/allocs?debug=1", "/debug/pprof/heap", "/debug/pprof/block?debug=1", "/debug/pprof/mutex?debug=1",
		"/debug/pprof/profile?seconds=1", "/debug/pprof/trace?seconds=1", "/id/nothing", "/pki/ca/local", "/system_keys/status", "/system_keys/ready",
	} {
		done := make(chan struct{})
		go func() { // what is profiled is a server at work
			defer close(done)
			for range 20 {
				p.call(http.MethodGet, p.site, "/", "Bearer "+p.live, "")
			}
		}()
		a := p.call(http.MethodGet, p.control, path, "", "")
		p.record("Caddy's "+path, []byte(a.Body))
		<-done
	}
	for _, config := range []string{`{"apps":{"system_keys":{"store":{"driver":"nothing"}}}}`, `{"apps":{"system_keys":{"lease":1}}}`, `{`} {
		p.call(http.MethodPost, p.control, "/load", "", config)
	}
}

// loseDatabase kills it under the running server, and asks everybody again.
func loseDatabase(t *testing.T, p *product) {
	p.postgres.Kill()
	eventually(t, "the loss is noticed", func() bool {
		return p.call(http.MethodGet, p.site, plane.KeysPath, "Bearer "+p.root, "").Status == http.StatusServiceUnavailable
	})
	for _, path := range []string{"/metrics", "/system_keys/status", "/system_keys/ready"} {
		p.record("Caddy's "+path, []byte(p.call(http.MethodGet, p.control, path, "", "").Body))
	}
	unknown := p.keys.Minter.Mint([16]byte{1}, [32]byte{2})
	p.secrets["a key that is not known"] = unknown
	for _, address := range []string{p.site, p.routed} {
		p.call(http.MethodGet, address, "/", "Bearer "+unknown, "")
		p.call(http.MethodPost, address, plane.KeysPath, "Bearer "+p.root, `{"label":"x"}`)
		p.call(http.MethodPost, address, admin.GraphQLPath, "Bearer "+p.root, plane.GQL("{ adminSystemKeys { total } }"))
	}
	for _, args := range [][]string{{"list"}, {"status"}, {"create", "--label", "x", "--permission", admin.PermissionRead}} {
		cmd := p.command(t.Context(), append([]string{"system-keys"}, args...)...)
		output, _ := cmd.CombinedOutput()
		p.record("system-keys "+args[0], output)
	}
}
