package integration_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// failing are sites whose requests fail after a key was accepted. None has a gate in
// its error routes.
var failing = map[string]string{
	"error routes": `
		system_key_auth {
			assertion lumio-api
		}
		reverse_proxy FIRST
		handle_errors {
			reverse_proxy SECOND
		}`,
	"two gates": `
		system_key_auth /hang {
			header_prefix X-Acme-
		}
		system_key_auth {
			passthrough
		}
		system_key_auth /down {
			header_prefix X-Acme-
		}
		reverse_proxy FIRST
		handle_errors {
			reverse_proxy SECOND
		}`,
	"the credential is kept": `
		system_key_auth {
			keep_credential
		}
		system_key_auth {
			header_prefix X-Acme-
			keep_credential
		}
		reverse_proxy FIRST
		handle_errors {
			reverse_proxy SECOND
		}`,
	"other attempts": `
		system_key_auth
		reverse_proxy FIRST {
			to FIRST
			lb_retries 2
		}
		handle_errors {
			reverse_proxy SECOND
		}`,
	"handle_response": `
		system_key_auth
		reverse_proxy FIRST {
			handle_response {
				copy_response
			}
		}
		handle_errors {
			reverse_proxy SECOND
		}`,
	"forward_auth": `
		system_key_auth
		forward_auth FIRST {
			uri /hang
		}
		reverse_proxy FIRST
		handle_errors {
			reverse_proxy SECOND
		}`,
}

// gated are sites with a gate in their error routes.
var gated = map[string]string{
	"a gate in the error route": `
		system_key_auth
		reverse_proxy FIRST
		handle_errors {
			test_hook
			system_key_auth
			reverse_proxy SECOND
		}`,
	"a gate with passthrough": `
		system_key_auth {
			passthrough
		}
		request_header Authorization "Basic b2Y6dGhlIHVwc3RyZWFt"
		reverse_proxy FIRST
		handle_errors {
			test_hook
			system_key_auth {
				passthrough
			}
			reverse_proxy SECOND
		}`,
}

func all(bodies ...map[string]string) map[string]string {
	sites := make(map[string]string)
	for _, some := range bodies {
		maps.Copy(sites, some)
	}
	return sites
}

// whereErrorsAre runs a test with the error routes of the server, and with those of a
// subroute.
func whereErrorsAre(t *testing.T, test func(t *testing.T, where func(*testing.T, []byte) []byte)) {
	t.Helper()
	t.Run("error routes of the server", func(t *testing.T) {
		test(t, func(_ *testing.T, config []byte) []byte { return config })
	})
	t.Run("error routes of a subroute", func(t *testing.T) { test(t, errorsInside) })
}

// TestErrorRoutesDoNotRunForWhatWasCut has a request at every site, over every
// protocol, that its upstream has not answered, and ends their key. Each is
// answered by the handler, and the second upstream gets nothing.
func TestErrorRoutesDoNotRunForWhatWasCut(t *testing.T) {
	whereErrorsAre(t, func(t *testing.T, where func(*testing.T, []byte) []byte) {
		for name, test := range map[string]struct {
			cut    func(t *testing.T) (b *backend, plain string, end func())
			status int
			code   string
		}{
			"the key is revoked": {func(t *testing.T) (*backend, string, func()) {
				b := onSQLite(t)
				keys := b.keys(t)
				key, plain := mint(t, keys, "bot")
				return b, plain, func() {
					if report := revokeAndWait(t, keys, key).Report; report.Cut == 0 {
						t.Errorf("the report is %+v", report)
					}
				}
			}, http.StatusUnauthorized, "invalid_token"},
			"the key expires": {func(t *testing.T) (*backend, string, func()) {
				b := onSQLite(t)
				_, plain := mint(t, b.keys(t), "bot")
				return b, plain, func() {
					b.plainSQL(t, fmt.Sprintf("UPDATE system_keys SET expires_at = %d WHERE label = 'bot'", time.Now().Add(300*time.Millisecond).UnixMicro()))
				}
			}, http.StatusUnauthorized, "invalid_token"},
			"the lease runs out": {func(t *testing.T) (*backend, string, func()) {
				b, server := onPrivatePostgres(t)
				_, plain := mint(t, b.keys(t), "bot")
				b.options += "\nlease 5s"
				return b, plain, server.Kill
			}, http.StatusServiceUnavailable, "unavailable"},
		} {
			t.Run(name, func(t *testing.T) {
				b, plain, end := test.cut(t)
				s := startErrorSites(t, b.options+"\n"+cheap, all(failing, gated), where)
				var calls []*sentRequest
				for site := range s.sites {
					for _, protocol := range protocols {
						calls = append(calls, s.send(t, site, protocol, "/hang", plain))
					}
				}
				for range calls {
					<-s.asked
				}
				end()
				for _, c := range calls {
					c.must(t, test.status, test.code)
					if header, ok := s.atSecond(c.name); ok {
						t.Errorf("%s: the second upstream has got it, with %q", c.name, identified(header))
					}
				}
			})
		}
	})
}

// TestErrorRoutesSeeAnAnonymousRequest has the first upstream fail. The second gets
// the request without anything of its caller, which the access log still names.
func TestErrorRoutesSeeAnAnonymousRequest(t *testing.T) {
	whereErrorsAre(t, func(t *testing.T, where func(*testing.T, []byte) []byte) {
		b := onSQLite(t)
		_, plain := mint(t, b.keys(t), "bot", "bots:read")
		s := startErrorSites(t, b.options+"\n"+cheap, all(failing, map[string]string{
			"a panic": `
				route {
					test_recover
					system_key_auth
					test_panic
				}
				handle_errors {
					reverse_proxy SECOND
				}`,
		}), where)
		for site := range s.sites {
			if site == "forward_auth" { // its first request hangs
				continue
			}
			for _, protocol := range protocols {
				c := s.send(t, site, protocol, "/down", plain)
				if a := c.wait(t); a.status != http.StatusOK || a.body != "from the second" {
					t.Errorf("%s: %d %s", c.name, a.status, a.body)
				}
				header, ok := s.atSecond(c.name)
				if fields := identified(header); !ok || len(fields) > 0 {
					t.Errorf("%s: the second upstream has got %v: %q", c.name, ok, fields)
				}
			}
		}
	})
}

// TestAGateInAnErrorRouteVerifiesTheKeyAnew has the identity reach the second
// upstream by a gate in front of it, in a flight that a revocation cuts.
func TestAGateInAnErrorRouteVerifiesTheKeyAnew(t *testing.T) {
	whereErrorsAre(t, func(t *testing.T, where func(*testing.T, []byte) []byte) {
		b := onSQLite(t)
		keys := b.keys(t)
		s := startErrorSites(t, b.options+"\n"+cheap, gated, where)
		t.Cleanup(func() { hooked.Store(nil) })
		for site := range gated {
			for _, protocol := range protocols {
				t.Run(site+", "+protocol, func(t *testing.T) {
					hooked.Store(nil)
					key, plain := mint(t, keys, "bot")
					c := s.send(t, site, protocol, "/down", plain)
					if a := c.wait(t); a.status != http.StatusOK || a.body != "from the second" {
						t.Fatalf("%d %s", a.status, a.body)
					}
					header, _ := s.atSecond(c.name)
					if header.Get("X-Lumio-Key-Id") != key.ID.String() || !strings.HasPrefix(header.Get("X-Seen"), key.ID.String()+"bot") ||
						strings.Contains(header.Get("Authorization"), "lm_sys_") || header.Get("X-Vars") != "" {
						t.Errorf("the second upstream has got %q", identified(header))
					}
					if strings.Contains(gated[site], "Basic") != strings.HasPrefix(header.Get("Authorization"), "Basic") {
						t.Errorf("the credential for the upstream is %q", header.Get("Authorization"))
					}

					hanging := s.send(t, site, protocol, "/down/hang", plain)
					<-s.asked
					streaming := s.send(t, site, protocol, "/down/stream", plain)
					eventually(t, "the stream is there", func() bool {
						_, ok := s.atSecond(streaming.name)
						return ok
					})
					if report := revokeAndWait(t, keys, key).Report; report.Cut != 2 {
						t.Errorf("the report is %+v", report)
					}
					hanging.must(t, http.StatusUnauthorized, "invalid_token")
					s.atSecond(hanging.name)
					select {
					case err := <-streaming.failed:
						t.Log("the stream has ended:", err)
					case a := <-streaming.answered: // cut before its first byte
						if a.status != http.StatusUnauthorized {
							t.Errorf("the stream has ended with %d %s", a.status, a.body)
						}
					case <-time.After(answerTimeout):
						t.Error("the stream goes on")
					}

					c = s.send(t, site, protocol, "/down/revoked", plain)
					c.must(t, http.StatusUnauthorized, "invalid_token")
					if header, ok := s.atSecond(c.name); ok {
						t.Errorf("the second upstream has got a request with a revoked key: %v", header)
					}
				})
			}
		}
	})
}

// TestAKeyThatIsRevokedBeforeTheErrorRoute ends the key when the request has left
// the first flight, where nothing could cut it.
func TestAKeyThatIsRevokedBeforeTheErrorRoute(t *testing.T) {
	whereErrorsAre(t, func(t *testing.T, where func(*testing.T, []byte) []byte) {
		b := onSQLite(t)
		keys := b.keys(t)
		s := startErrorSites(t, b.options+"\n"+cheap, all(gated, map[string]string{
			"no gate": `
				system_key_auth
				reverse_proxy FIRST
				handle_errors {
					test_hook
					reverse_proxy SECOND
				}`,
		}), where)
		t.Cleanup(func() { hooked.Store(nil) })
		for site := range s.sites {
			for _, protocol := range protocols {
				key, plain := mint(t, keys, "bot")
				revoke := func() { revokeAndWait(t, keys, key) }
				hooked.Store(&revoke)
				c := s.send(t, site, protocol, "/down", plain)
				if site == "no gate" {
					a := c.wait(t)
					header, _ := s.atSecond(c.name)
					if fields := identified(header); a.body != "from the second" || len(fields) > 0 {
						t.Errorf("%s: %d %s: %q", c.name, a.status, a.body, fields)
					}
					continue
				}
				c.must(t, http.StatusUnauthorized, "invalid_token")
				if header, ok := s.atSecond(c.name); ok {
					t.Errorf("%s: the second upstream has got %q", c.name, identified(header))
				}
			}
		}
	})
}

// TestAHandlerAroundTheGateHasNoIdentity replaces answers outside of the flight, by
// those of another upstream.
func TestAHandlerAroundTheGateHasNoIdentity(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	key, plain := mint(t, keys, "bot")
	s := startErrorSites(t, b.options+"\n"+cheap, map[string]string{"intercept": `
		route {
			intercept {
				@replaced status 401 503
				handle_response @replaced {
					rewrite /replaced
					reverse_proxy SECOND
				}
			}
			system_key_auth
			reverse_proxy FIRST
		}`})
	check := func(c *sentRequest) {
		t.Helper()
		a := c.wait(t)
		header, ok := s.atSecond(c.name)
		fields := slices.DeleteFunc(identified(header), func(field string) bool { return strings.HasPrefix(field, "X-Seen") })
		if !ok || a.status != http.StatusOK || a.body != "from the second" || len(fields) > 0 {
			t.Errorf("%s: %d %s: %v %q", c.name, a.status, a.body, ok, fields)
		}
	}
	var calls []*sentRequest
	for _, protocol := range protocols {
		check(s.send(t, "intercept", protocol, "/unwell", plain))
		calls = append(calls, s.send(t, "intercept", protocol, "/hang", plain))
	}
	for range calls {
		<-s.asked
	}
	revokeAndWait(t, keys, key)
	for _, c := range calls {
		check(c)
	}
}

// TestAGateBehindTheProviderCutsTheRequest has Caddy's own handler accept the key,
// which does not see the end of the request. The gate behind it does.
func TestAGateBehindTheProviderCutsTheRequest(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	password, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	s := startErrorSites(t, b.options+"\n"+cheap, map[string]string{"provider": `
		basic_auth {
			bob ` + string(password) + `
		}
		system_key_auth
		reverse_proxy FIRST
		handle_errors {
			reverse_proxy SECOND
		}`}, func(_ *testing.T, config []byte) []byte {
		return []byte(strings.Replace(string(config), `"providers":{`, `"providers":{"system_key":{},`, 1))
	})
	for _, protocol := range protocols {
		key, plain := mint(t, keys, "bot")
		c := s.send(t, "provider", protocol, "/down", plain)
		if a := c.wait(t); a.body != "from the second" {
			t.Errorf("%s: %d %s", c.name, a.status, a.body)
		}
		header, _ := s.atSecond(c.name)
		if fields := identified(header); len(fields) > 0 {
			t.Errorf("%s: the second upstream has got %q", c.name, fields)
		}
		c = s.send(t, "provider", protocol, "/hang", plain)
		<-s.asked
		if report := revokeAndWait(t, keys, key).Report; report.Cut != 1 {
			t.Errorf("the report is %+v", report)
		}
		c.must(t, http.StatusUnauthorized, "invalid_token")
	}
}

// TestTheAccessLogNamesTheCallerOfARequestThatFailed reads the lines that Caddy
// writes when error routes, which do not know the caller, have ended.
func TestTheAccessLogNamesTheCallerOfARequestThatFailed(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	key, plain := mint(t, keys, "bot")
	file := filepath.Join(t.TempDir(), "log")
	bodies := all(gated, map[string]string{
		"error routes":    failing["error routes"],
		"no error routes": "system_key_auth\nreverse_proxy FIRST",
	})
	for name, body := range bodies {
		bodies[name] = "log {\noutput file " + file + "\n}\nlog_append vars system_keys.caller\nlog_append shown {http.vars.system_keys.caller}\n" + body
	}
	s := startErrorSites(t, b.options+"\n"+cheap, bodies)
	var calls []*sentRequest
	for site := range s.sites {
		for _, path := range []string{"/down", "/ok"} {
			s.send(t, site, "h2", path, plain).wait(t)
		}
		calls = append(calls, s.send(t, site, "http/1.1", "/hang", plain))
	}
	for range calls {
		<-s.asked
	}
	revokeAndWait(t, keys, key)
	for _, c := range calls {
		c.must(t, http.StatusUnauthorized, "invalid_token")
	}
	var lines []string
	eventually(t, "all is logged", func() bool {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines = strings.Split(strings.TrimSpace(string(content)), "\n")
		return len(lines) == 3*len(s.sites)
	})
	for _, line := range lines {
		var entry struct {
			User  string `json:"user_id"`
			Label string `json:"system_key_label"`
			Vars  *string
			Shown *string
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		if strings.Count(line, `"user_id"`) != 1 || entry.User != key.ID.String() || entry.Label != "bot" || strings.Contains(line, "lm_sys_") {
			t.Errorf("logged as %+v: %s", entry, line)
		}
		if entry.Vars == nil || *entry.Vars != "" || entry.Shown == nil || *entry.Shown != "" {
			t.Errorf("what handlers keep for each other is logged: %s", line)
		}
	}
}

// TestErrorRoutesGetNothingThatWasNotChecked sends what is answered without a look at
// the key, which error routes never see, and what is refused for where the key stands.
func TestErrorRoutesGetNothingThatWasNotChecked(t *testing.T) {
	const publicKeys = "/.well-known/lumio-keys.json"
	b := onSQLite(t)
	_, plain := mint(t, b.keys(t), "bot")
	second := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_ = r.Header.Write(w)
	}))
	t.Cleanup(second.Close)
	for _, handlers := range []string{"system_key_auth", "system_keys_admin\nsystem_key_auth"} {
		address := run(t, b, handlers+"\nreverse_proxy "+echo(t)+"\nhandle_errors {\nreverse_proxy "+second.Listener.Addr().String()+"\n}")
		for target, want := range map[string]int{
			publicKeys: http.StatusMethodNotAllowed, publicKeys + "?k=" + plain: http.StatusMethodNotAllowed, "/": http.StatusTeapot,
		} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+target, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			request.Header = http.Header{
				"X-Lumio-Auth-Type": {"system_key"}, "X_lumio_key_id": {"00000000-0000-0000-0000-000000000001"},
				"Authorization": {"Bearer " + plain}, "X-Api-Key": {plain}, "Cookie": {"k=" + plain},
			}
			response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if text := strings.ToLower(string(body)); response.StatusCode != want || strings.Contains(text, "lumio") || strings.Contains(text, "lm_sys_") {
				t.Errorf("%s, %s: %d\n%s", handlers, target, response.StatusCode, body)
			}
		}
	}
}
