package integration_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// TestIncidentFailOpenAtTheStart has something missing that a configuration
// names. It is not loaded, or serves nobody; never is it as if the line were not
// there.
func TestIncidentFailOpenAtTheStart(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "system-keys.db")
	t.Setenv("SYSTEM_KEYS_TEST_EMPTY", "")
	for name, options := range map[string]string{
		"the file of a secret":     "store sqlite " + file + "\nsecret {file." + folder + "/missing}",
		"one of several secrets":   "store sqlite " + file + "\nsecret 0123456789abcdef0123456789abcdef {file." + folder + "/missing}",
		"the value of a secret":    "store sqlite " + file + "\nsecret {env.SYSTEM_KEYS_TEST_EMPTY}",
		"the value of a DSN":       "store postgres {env.SYSTEM_KEYS_TEST_EMPTY}",
		"the name of a file":       "store sqlite {env.SYSTEM_KEYS_TEST_EMPTY}",
		"the folder of a file":     "store sqlite " + folder + "/missing/folder/system-keys.db",
		"a file, but for a folder": "store sqlite " + folder,
		"one of several URLs":      "store sqlite " + file + "\nsecret 0123456789abcdef0123456789abcdef\nredis redis://localhost {env.SYSTEM_KEYS_TEST_EMPTY}",
	} {
		t.Run(name, func(t *testing.T) {
			address := testenv.FreeAddress(t)
			err := tryLoad(t, adapt(t, globals(options)+fmt.Sprintf(
				"http://%s {\nsystem_keys_admin\nsystem_key_auth\nrespond \"upstream\"\n}\n", address)))
			t.Cleanup(func() { _ = caddy.Stop() })
			if err == nil {
				t.Error("it was loaded")
				for _, authorization := range []string{"", "Bearer lm_sys_" + strings.Repeat("0", 76)} {
					if status, _, body := get(t, "http://"+address, authorization); status < 400 || body == "upstream" {
						t.Errorf("and %q was let through: %d", authorization, status)
					}
				}
			}
		})
	}
}

// TestIncidentFailOpenWithoutADependency loads configurations whose database,
// cache or issuer does not answer.
func TestIncidentFailOpenWithoutADependency(t *testing.T) {
	t.Run("the database", func(t *testing.T) {
		upstream := newRecorder(t)
		nowhere := &backend{options: "store postgres postgres://nobody@" + testenv.FreeAddress(t) + "/nothing"}
		address := run(t, nowhere, `
			system_keys_admin
			handle /strict/* {
				system_key_auth {
					require bots:read
				}
				reverse_proxy `+upstream.addr()+`
			}
			handle {
				system_key_auth {
					passthrough
				}
				reverse_proxy `+upstream.addr()+`
			}`)
		// Not even where a request without a key may pass may one with a key pass as
		// if it had none.
		key := "Bearer lm_sys_" + strings.Repeat("0", 76)
		for _, path := range []string{"/", "/strict/x", plane.KeysPath, plane.AuditPath} {
			status, header, body := get(t, "http://"+address+path, key)
			if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || !strings.Contains(body, `"unavailable"`) {
				t.Errorf("%s got %d %v %s", path, status, header, body)
			}
		}
		for _, path := range []string{"/strict/x", plane.KeysPath} {
			if status, _, _ := get(t, "http://"+address+path, ""); status != http.StatusUnauthorized {
				t.Errorf("%s without a key got %d", path, status)
			}
		}
		upstream.nothing(t)
	})
	t.Run("Redis", func(t *testing.T) {
		b := onSQLite(t)
		keys := b.keys(t)
		_, plain := mint(t, keys, "bot")
		gone, revoked := mint(t, keys, "gone")
		if _, err := keys.Revoke(t.Context(), admin.CLI(), gone.ID); err != nil {
			t.Fatal(err)
		}
		b.options += "\nredis redis://" + testenv.FreeAddress(t) + "\nsecret 0123456789abcdef0123456789abcdef"
		address := run(t, b, "system_key_auth\nrespond upstream")
		for key, want := range map[string]int{plain: http.StatusOK, revoked: http.StatusUnauthorized, plain[:82] + "_": http.StatusUnauthorized} {
			if status, _, _ := get(t, "http://"+address, "Bearer "+key); status != want {
				t.Errorf("got %d, want %d", status, want)
			}
		}
	})
	t.Run("the keys of an issuer", func(t *testing.T) {
		b := onSQLite(t)
		p := &plane.Plane{Keys: b.keys(t), Issuer: plane.NewIssuer(t), API: plane.ReadOpenAPI(t)}
		p.URL = "http://" + run(t, b, fmt.Sprintf(`system_keys_admin {
			jwt {
				jwks http://%s/jwks.json
				algorithms EdDSA
				issuer https://lumio.example
				audience lumio-admin
			}
		}`, testenv.FreeAddress(t)))
		p.ByToken(true).Call(t, http.MethodGet, plane.KeysPath, "").Must(t, http.StatusServiceUnavailable, nil)
	})
}
