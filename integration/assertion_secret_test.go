package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

const (
	firstSecret  = "swordfish 1, which both sides have"
	secondSecret = "swordfish 2, which both sides have"
)

// writeSecret has a line end at the end, as files do.
func writeSecret(tb testing.TB, secret string) (file string) {
	tb.Helper()
	file = filepath.Join(tb.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

// TestASharedSecret signs what a service with the secret believes, for this request and no
// other. Nothing of it is among the public keys.
func TestASharedSecret(t *testing.T) {
	b := onSQLite(t)
	key, plain := mint(t, b.keys(t), "bot", "bots:read")
	address := testenv.FreeAddress(t)
	service := sharing(t, firstSecret+"\r\n")
	options := "secret {file." + writeSecret(t, firstSecret) + "}"
	load(t, globals(b.options+"\n"+cheap)+fmt.Sprintf("http://%s {\n%s\n}\n", address, signedSite(service, options, "")))
	status, _, body := get(t, "http://"+address+"/bots/17", "Bearer "+plain)
	if status != http.StatusOK || !strings.Contains(body, key.ID.String()) {
		t.Fatalf("%d %s", status, body)
	}
	header, claims := readAssertion(t, service.last.Header.Get("X-Lumio-Assertion"))
	kid, _ := header["kid"].(string)
	if header["alg"] != "HS256" || header["typ"] != "lumio-key+jwt" || len(kid) != 22 || claims["htu"] != "http://"+address+"/bots/17" {
		t.Errorf("the header is %v, the claims are %v", header, claims)
	}
	if _, _, set := get(t, "http://"+address+jwksPath, ""); strings.Contains(set, kid) || strings.Contains(set, "oct") || strings.Contains(set, "HS256") {
		t.Errorf("the public keys are %s", set)
	}
	if status, _, body := get(t, "http://"+address+"/write/x", "Bearer "+plain); status != http.StatusForbidden {
		t.Errorf("without the permission: %d %s", status, body)
	}
	mustRemoveNothing(t, address, plain)
	mustStealNothing(t, service, address, plain)
}

// TestBothSidesPinTheAlgorithm: a service that expects the other one believes nothing, and
// neither does one that has another secret.
func TestBothSidesPinTheAlgorithm(t *testing.T) {
	b := onSQLite(t)
	_, plain := mint(t, b.keys(t), "bot", "bots:read")
	for name, test := range map[string]struct {
		options string
		service func(sidecar string) *service
		status  int
	}{
		"shared on both":         {"secret " + quoted(firstSecret), func(string) *service { return sharing(t, firstSecret) }, http.StatusOK},
		"two, the first signs":   {"secret " + quoted(secondSecret) + "\nsecret " + quoted(firstSecret), func(string) *service { return sharing(t, secondSecret) }, http.StatusOK},
		"two, the second is not": {"secret " + quoted(secondSecret, firstSecret), func(string) *service { return sharing(t, firstSecret) }, http.StatusUnauthorized},
		"another secret":         {"secret " + quoted(firstSecret), func(string) *service { return sharing(t, secondSecret) }, http.StatusUnauthorized},
		"public keys expected":   {"secret " + quoted(firstSecret), func(sidecar string) *service { return newService(t, sidecar) }, http.StatusUnauthorized},
		"a secret expected":      {"", func(string) *service { return sharing(t, firstSecret) }, http.StatusUnauthorized},
		"unbound, and not asked": {"unbound\nsecret " + quoted(firstSecret), func(string) *service { return sharing(t, firstSecret) }, http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			address := testenv.FreeAddress(t)
			service := test.service(address)
			load(t, globals(b.options+"\n"+cheap)+fmt.Sprintf("http://%s {\n%s\n}\n", address, signedSite(service, test.options, "")))
			if status, _, body := get(t, "http://"+address+"/bots/17", "Bearer "+plain); status != test.status {
				t.Errorf("%d %s, want %d", status, body, test.status)
			}
		})
	}
}

func quoted(secrets ...string) string { return `"` + strings.Join(secrets, `" "`) + `"` }

// TestSecretsThatFailTheStart fail neither `caddy adapt` nor `caddy validate`, and are in no
// error.
func TestSecretsThatFailTheStart(t *testing.T) {
	b := onSQLite(t)
	file, short := writeSecret(t, firstSecret), writeSecret(t, "  swordfish-of-thirty-one-letters \r")
	t.Setenv("SYSTEM_KEYS_TEST_SECRET", " "+firstSecret+"\n")
	t.Setenv("SYSTEM_KEYS_TEST_EMPTY", "")
	for name, test := range map[string]struct{ globals, site, want string }{
		"an empty file":     {"", "system_key_auth {\nassertion a {\nsecret {file." + writeSecret(t, " ") + "}\n}\n}", "assertion: secret, value 1: a placeholder is unknown or empty"},
		"no file":           {"", "system_key_auth {\nassertion a {\nsecret {file." + file + ".gone}\n}\n}", "assertion: secret, value 1: a placeholder is unknown or empty"},
		"an empty variable": {"", "system_key_auth {\nassertion a {\nsecret {file." + file + "} {env.SYSTEM_KEYS_TEST_EMPTY}\n}\n}", "assertion: secret, value 2: a placeholder is unknown or empty"},
		"31 bytes":          {"", "system_key_auth {\nassertion a {\nsecret {file." + short + "}\n}\n}", "assertion: secret, value 1: has less than 32 bytes"},
		"31 bytes behind 32": {
			"", "system_key_auth {\nassertion a {\nsecret {file." + file + "} {file." + short + "}\n}\n}",
			"assertion: secret, value 2: has less than 32 bytes",
		},
		"one for two audiences": {
			"", "system_key_auth /a {\nassertion a {\nsecret {file." + file + "}\n}\n}\nsystem_key_auth {\nassertion b {\nsecret {env.SYSTEM_KEYS_TEST_SECRET}\n}\n}",
			"have the same secret",
		},
		"an old one for another audience": {
			"", "system_key_auth /a {\nassertion a {\nsecret {file." + file + "}\n}\n}\nsystem_key_auth {\nassertion b {\nsecret " +
				quoted(secondSecret) + " {file." + file + "}\n}\n}",
			"have the same secret",
		},
		// HMAC fills a secret up with zeros, so both sign alike (RFC 2104 section 2).
		"one with zeros behind for another audience": {
			"", "system_key_auth /a {\nassertion a {\nsecret {file." + file + "}\n}\n}\nsystem_key_auth {\nassertion b {\nsecret {file." +
				writeSecret(t, firstSecret+"\x00") + "}\n}\n}",
			"have the same secret",
		},
		"that of the app": {"secret {file." + file + "}", "system_key_auth {\nassertion a {\nsecret {file." + file + "}\n}\n}", "no upstream may know"},
		"that of admins": {
			"", "system_keys_admin {\njwt {\nkey {file." + file + "}\nalgorithms HS256\nissuer i\naudience a\n}\n}\nsystem_key_auth {\nassertion a {\nsecret {file." +
				file + "}\n}\n}",
			"no upstream may know",
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := adapt(t, globals(b.options+"\n"+test.globals)+"http://127.0.0.1:1 {\nbind 127.0.0.1\n"+test.site+"\n}\n")
			var parsed caddy.Config
			if err := json.Unmarshal(config, &parsed); err != nil {
				t.Fatal(err)
			}
			if err := caddy.Validate(&parsed); err != nil {
				t.Errorf("it does not validate: %v", err)
			}
			err := tryLoad(t, config)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "swordfish") {
				t.Errorf("got %v, want %q", err, test.want)
			}
			_ = caddy.Stop()
		})
	}
	address := testenv.FreeAddress(t)
	load(t, globals(b.options)+"http://"+address+" {\nsystem_key_auth /a {\nassertion a {\nsecret {file."+file+"}\n}\n}\n"+
		"system_key_auth /b {\nassertion a {\nissuer i\nsecret {env.SYSTEM_KEYS_TEST_SECRET}\n}\n}\n}\n") // twice for one is fine
}

// TestASecretIsReplacedUnderLoad without a refusal: the service accepts both, and then the
// proxy gets the new one. A reload of any Caddy on Linux drops new connections that its old
// listener has not accepted yet (SO_REUSEPORT, Caddy's listen_unix.go), so a request may end
// without an answer.
func TestASecretIsReplacedUnderLoad(t *testing.T) {
	b := onSQLite(t)
	_, plain := mint(t, b.keys(t), "bot", "bots:read")
	address, file := testenv.FreeAddress(t), writeSecret(t, firstSecret)
	service := sharing(t, firstSecret, secondSecret)
	site := globals(b.options+"\n"+cheap) + fmt.Sprintf("http://%s {\n%s\n}\n", address, signedSite(service, "secret {file."+file+"}", ""))
	load(t, site)
	get(t, "http://"+address+"/bots/17", "Bearer "+plain) // remembered from now on
	before, _ := readAssertion(t, service.last.Header.Get("X-Lumio-Assertion"))

	var client sync.WaitGroup
	var accepted atomic.Int64
	var end atomic.Bool
	client.Go(func() {
		for !end.Load() && !t.Failed() {
			status, _, body, err := try(t, http.MethodGet, "http://"+address+"/bots/17", "Bearer "+plain, nil)
			switch {
			case err != nil:
			case status != http.StatusOK:
				t.Errorf("%d %s", status, body)
			default:
				accepted.Add(1)
			}
		}
	})
	more := func() {
		t.Helper()
		least := accepted.Load() + 20
		eventually(t, "requests are served", func() bool { return t.Failed() || accepted.Load() > least })
	}
	more()
	if err := os.WriteFile(file, []byte(secondSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	load(t, site) // as `caddy reload --force`
	more()
	end.Store(true)
	client.Wait()
	get(t, "http://"+address+"/bots/17", "Bearer "+plain)
	after, _ := readAssertion(t, service.last.Header.Get("X-Lumio-Assertion"))
	if before["kid"] == after["kid"] {
		t.Error("the old secret still signs")
	}
	later := sharing(t, secondSecret) // which has forgotten the old one
	load(t, strings.Replace(site, service.address, later.address, 1))
	if status, _, body := get(t, "http://"+address+"/bots/17", "Bearer "+plain); status != http.StatusOK {
		t.Errorf("with the new one alone: %d %s", status, body)
	}
}
