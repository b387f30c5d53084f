package integration_test

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/crypto/bcrypt"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// TestWhoIsNoAdmin tries credentials that are not good, on a plane that knows
// keys and tokens and on one that trusts another handler.
func TestWhoIsNoAdmin(t *testing.T) {
	p := newPlane(t, onSQLite(t), "")
	stranger := newIssuer(t)
	with := func(authorize func(*http.Request)) *caller {
		return &caller{plane: p, url: p.url, authorize: authorize}
	}
	system := map[string]any{"sub": "u", "is_system": true}
	claims := func(name string, value any) map[string]any {
		return map[string]any{"sub": "u", "is_system": true, name: value}
	}
	for name, test := range map[string]struct {
		authorize func(*http.Request)
		status    int
	}{
		"a token":                              {bearer("lm_" + p.issuer.token(system)), 200},
		"in another case":                      {func(r *http.Request) { r.Header.Set("Authorization", "bEARER   lm_"+p.issuer.token(system)) }, 200},
		"a token without the prefix":           {bearer(p.issuer.token(system)), 401},
		"a token of another issuer's key":      {bearer("lm_" + stranger.token(system)), 401},
		"an expired token":                     {bearer("lm_" + p.issuer.token(claims("exp", time.Now().Add(-time.Minute).Unix()))), 401},
		"a token for another audience":         {bearer("lm_" + p.issuer.token(claims("aud", "lumio"))), 401},
		"a token of another issuer":            {bearer("lm_" + p.issuer.token(claims("iss", "lumio"))), 401},
		"a token that says is_system in words": {bearer("lm_" + p.issuer.token(claims("is_system", "true"))), 403},
		"a token without permissions":          {bearer("lm_" + p.issuer.token(map[string]any{"sub": "u"})), 403},
		"a token with another permission":      {bearer("lm_" + p.issuer.token(map[string]any{"sub": "u", "permissions": "system-keys:delete"})), 403},
		"a token with the permission":          {bearer("lm_" + p.issuer.token(map[string]any{"sub": "u", "permissions": "system-keys:read"})), 200},
		"half a token":                         {bearer("lm_eyJ"), 401},
		"two credentials": {func(r *http.Request) {
			r.Header.Add("Authorization", "Bearer lm_"+p.issuer.token(system))
			r.Header.Add("Authorization", "Bearer lm_"+p.issuer.token(system))
		}, 400},
		"a user that nobody vouches for": {func(r *http.Request) { r.SetBasicAuth("ada", password) }, 401},
	} {
		t.Run(name, func(t *testing.T) {
			if a := with(test.authorize).call(t, http.MethodGet, keysPath, ""); a.status != test.status {
				t.Errorf("got %d %s, want %d", a.status, a.body, test.status)
			}
		})
	}

	// Where another handler is trusted, a credential of ours still decides, and a
	// user of whom nothing is said may do nothing.
	bob := p.byName("bob")
	bob.call(t, http.MethodGet, keysPath, "").must(t, http.StatusForbidden, nil)
	bob.call(t, http.MethodPost, keysPath, `{"label":"x"}`).must(t, http.StatusCreated, nil)
	bob.call(t, http.MethodPost, keysPath, `{"label":"x"}`, "Sec-Fetch-Site", "cross-site").must(t, http.StatusForbidden, nil)
	bob.call(t, http.MethodPost, keysPath, `{"label":"x"}`, "Origin", "https://evil.example").must(t, http.StatusForbidden, nil)
	bob.call(t, http.MethodPost, keysPath, `{"label":"x"}`, "Sec-Fetch-Site", "same-origin").must(t, http.StatusCreated, nil)
}

// TestAnIssuerThatCannotBeAsked is no reason to say that a token is wrong.
func TestAnIssuerThatCannotBeAsked(t *testing.T) {
	b := onSQLite(t)
	p := &plane{keys: b.keys(t), issuer: newIssuer(t), api: readOpenAPI(t)}
	file := filepath.Join(t.TempDir(), "jwks.json")
	p.url = "http://" + run(t, b, fmt.Sprintf("system_keys_admin {\njwt {\njwks %s\nalgorithms EdDSA\nissuer https://lumio.example\naudience lumio-admin\n}\n}", file))
	ada := p.byToken(t, true)
	a := ada.call(t, http.MethodGet, keysPath, "").must(t, http.StatusServiceUnavailable, nil)
	if a.header.Get("Retry-After") == "" || strings.Contains(a.body, file) {
		t.Errorf("got %v %s", a.header, a.body)
	}
	// Others come in all the same.
	p.byKey(t, true).call(t, http.MethodGet, keysPath, "").must(t, http.StatusOK, nil)
}

// TestTheKeyOfAnIssuerIsResolvedAtTheStart has it in a file, which only the
// server can read, and fails the load where it is missing or of the wrong kind.
func TestTheKeyOfAnIssuerIsResolvedAtTheStart(t *testing.T) {
	b := onSQLite(t)
	file := filepath.Join(t.TempDir(), "secret")
	config := func(algorithm string) []byte {
		return adapt(t, globals(b.options)+fmt.Sprintf(`http://127.0.0.1:1 {
			bind 127.0.0.1
			system_keys_admin {
				jwt {
					key {file.%s}
					algorithms %s
					issuer a
					audience b
				}
			}
		}`, file, algorithm))
	}
	for name, test := range map[string]struct{ content, algorithm, want string }{
		"a file that is not there": {"", "HS256", "placeholder"},
		"a secret that is short":   {"0123456789abcdef", "HS256", "at least 32 bytes"},
		"no public key":            {strings.Repeat("0123456789abcdef", 4), "RS256", "PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			_ = os.Remove(file)
			if test.content != "" {
				if err := os.WriteFile(file, []byte(test.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := tryLoad(t, config(test.algorithm))
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "0123456789") {
				t.Errorf("got %v, want %q", err, test.want)
			}
			_ = caddy.Stop()
		})
	}

	p := &plane{keys: b.keys(t), issuer: newIssuer(t), api: readOpenAPI(t)}
	der, err := x509.MarshalPKIXPublicKey(p.issuer.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	p.url = "http://" + run(t, b, fmt.Sprintf("system_keys_admin {\njwt {\nkey {file.%s}\nalgorithms EdDSA\nissuer https://lumio.example\naudience lumio-admin\n}\n}", file))
	p.byToken(t, true).call(t, http.MethodGet, keysPath, "").must(t, http.StatusOK, nil)
}

// TestAnEarlierHandlersWordOnAKey has system_key_auth take the key away before the
// admin plane sees the request, where everybody's word is trusted: the key is a
// key still, and holds what it holds.
func TestAnEarlierHandlersWordOnAKey(t *testing.T) {
	b := onSQLite(t)
	p := &plane{keys: b.keys(t), api: readOpenAPI(t)}
	p.url = "http://" + run(t, b, `route {
		system_key_auth
		system_keys_admin {
			trust_auth_user {
				permissions system-keys:read
				system true
			}
		}
		respond upstream
	}`)
	reader := p.byKey(t, false, admin.PermissionCreate)
	reader.call(t, http.MethodGet, keysPath, "").must(t, http.StatusForbidden, nil)
	var created oneKey
	reader.call(t, http.MethodPost, keysPath, `{"label":"x"}`).must(t, http.StatusCreated, &created)
	if *created.Data.CreatedBy != reader.id {
		t.Errorf("created by %s", *created.Data.CreatedBy)
	}
	reader.call(t, http.MethodPost, keysPath, `{"label":"x","is_system":true}`).must(t, http.StatusForbidden, nil)
}

// TestAPlaceholderThatNoMapSetsFailsTheLoad, since nobody knows who may set it.
func TestAPlaceholderThatNoMapSetsFailsTheLoad(t *testing.T) {
	b := onSQLite(t)
	for name, test := range map[string]struct {
		sets string
		good bool
	}{"a map sets it": {"may", true}, "a map sets another": {"may_not", false}} {
		t.Run(name, func(t *testing.T) {
			err := tryLoad(t, adapt(t, globals(b.options+"\n"+cheap)+fmt.Sprintf(
				"http://%s {\nmap {http.auth.user.id} {%s} {\nada audit-log:read\n}\nsystem_keys_admin {\ntrust_auth_user {\npermissions {may}\n}\n}\n}\n",
				testenv.FreeAddress(t), test.sets)))
			if test.good && err != nil || !test.good && (err == nil || !strings.Contains(err.Error(), "no map handler sets {may}")) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestAKeyIsNoUser has Caddy's own handler check the key. It says that a user has
// come; but a write on a key's word depends on that key.
func TestAKeyIsNoUser(t *testing.T) {
	b := onSQLite(t)
	p := &plane{keys: b.keys(t), api: readOpenAPI(t)}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	address := testenv.FreeAddress(t)
	p.url = "http://" + address
	config := adapt(t, globals(b.options+"\n"+cheap)+fmt.Sprintf(`http://%s {
		basic_auth {
			ada %s
		}
		system_keys_admin {
			trust_auth_user {
				permissions {http.auth.user.permissions}
				system {http.auth.user.system}
			}
		}
	}`, address, hash))
	loadJSON(t, []byte(strings.Replace(string(config), `"providers":{`, `"providers":{"system_key":{},`, 1)))
	creator := p.byKey(t, false, admin.PermissionCreate)
	var created oneKey
	creator.call(t, http.MethodPost, keysPath, `{"label":"x"}`).must(t, http.StatusCreated, &created)
	if *created.Data.CreatedBy != creator.id {
		t.Errorf("created by %s", *created.Data.CreatedBy)
	}
	ada := p.byName("ada")
	ada.url = p.url
	ada.call(t, http.MethodPost, keysPath, `{"label":"x"}`).must(t, http.StatusForbidden, nil)
}
