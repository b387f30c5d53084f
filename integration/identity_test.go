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

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/crypto/bcrypt"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// TestAnIssuerThatCannotBeAsked is no reason to say that a token is wrong.
func TestAnIssuerThatCannotBeAsked(t *testing.T) {
	b := onSQLite(t)
	p := &plane.Plane{Keys: b.keys(t), Issuer: plane.NewIssuer(t), API: plane.ReadOpenAPI(t)}
	file := filepath.Join(t.TempDir(), "jwks.json")
	p.URL = "http://" + run(t, b, fmt.Sprintf("system_keys_admin {\njwt {\njwks %s\nalgorithms EdDSA\nissuer https://lumio.example\naudience lumio-admin\n}\n}", file))
	ada := p.ByToken(true)
	a := ada.Call(t, http.MethodGet, plane.KeysPath, "").Must(t, http.StatusServiceUnavailable, nil)
	if a.Header.Get("Retry-After") == "" || strings.Contains(a.Body, file) {
		t.Errorf("got %v %s", a.Header, a.Body)
	}
	// Others come in all the same.
	p.ByKey(t, true).Call(t, http.MethodGet, plane.KeysPath, "").Must(t, http.StatusOK, nil)
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

	p := &plane.Plane{Keys: b.keys(t), Issuer: plane.NewIssuer(t), API: plane.ReadOpenAPI(t)}
	der, err := x509.MarshalPKIXPublicKey(p.Issuer.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	p.URL = "http://" + run(t, b, fmt.Sprintf("system_keys_admin {\njwt {\nkey {file.%s}\nalgorithms EdDSA\nissuer https://lumio.example\naudience lumio-admin\n}\n}", file))
	p.ByToken(true).Call(t, http.MethodGet, plane.KeysPath, "").Must(t, http.StatusOK, nil)
}

// TestAnEarlierHandlersWordOnAKey has system_key_auth take the key away before the
// admin plane sees the request, where everybody's word is trusted: the key is a
// key still, and holds what it holds.
func TestAnEarlierHandlersWordOnAKey(t *testing.T) {
	b := onSQLite(t)
	p := &plane.Plane{Keys: b.keys(t), API: plane.ReadOpenAPI(t)}
	p.URL = "http://" + run(t, b, `route {
		system_key_auth
		system_keys_admin {
			trust_auth_user {
				permissions system-keys:read
				system true
			}
		}
		respond upstream
	}`)
	reader := p.ByKey(t, false, admin.PermissionCreate)
	reader.Call(t, http.MethodGet, plane.KeysPath, "").Must(t, http.StatusForbidden, nil)
	var created plane.OneKey
	reader.Call(t, http.MethodPost, plane.KeysPath, `{"label":"x"}`).Must(t, http.StatusCreated, &created)
	if *created.Data.CreatedBy != reader.ID {
		t.Errorf("created by %s", *created.Data.CreatedBy)
	}
	reader.Call(t, http.MethodPost, plane.KeysPath, `{"label":"x","is_system":true}`).Must(t, http.StatusForbidden, nil)
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
	p := &plane.Plane{Keys: b.keys(t), API: plane.ReadOpenAPI(t)}
	hash, err := bcrypt.GenerateFromPassword([]byte(plane.Password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	address := testenv.FreeAddress(t)
	p.URL = "http://" + address
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
	creator := p.ByKey(t, false, admin.PermissionCreate)
	var created plane.OneKey
	creator.Call(t, http.MethodPost, plane.KeysPath, `{"label":"x"}`).Must(t, http.StatusCreated, &created)
	if *created.Data.CreatedBy != creator.ID {
		t.Errorf("created by %s", *created.Data.CreatedBy)
	}
	ada := p.ByName("ada")
	ada.URL = p.URL
	ada.Call(t, http.MethodPost, plane.KeysPath, `{"label":"x"}`).Must(t, http.StatusForbidden, nil)
}
