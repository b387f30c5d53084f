package integration_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/upstream"
)

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

// TestTheAbsoluteFormHasAPath in what is signed, though the client has sent none (RFC
// 9110 section 4.2.3). The service behind compares it with the path that arrives.
func TestTheAbsoluteFormHasAPath(t *testing.T) {
	b := onSQLite(t)
	_, plain := mint(t, b.keys(t), "bot", "bots:read")
	address := testenv.FreeAddress(t)
	service := newService(t, address)
	load(t, globals(b.options+"\n"+cheap)+fmt.Sprintf("http://%s {\n%s\n}\n", address, signedSite(service, "", "")))
	for _, query := range []string{"", "?a=b"} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(conn, "GET http://%s%s HTTP/1.1\r\nHost: %[1]s\r\nAuthorization: Bearer %[3]s\r\nConnection: close\r\n\r\n", address, query, plain)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		_, claims := readAssertion(t, service.last.Header.Get("X-Lumio-Assertion"))
		if want := "http://" + address + "/"; claims["htu"] != want || response.StatusCode != http.StatusOK {
			t.Errorf("%q: %d, htu is %v, want %s", query, response.StatusCode, claims["htu"], want)
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
