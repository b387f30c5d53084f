package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// TestLogsNameTheCallerAndHoldNoKey logs everything that Caddy can log, through
// success, refusal, an upstream that is down and a store that fails.
func TestLogsNameTheCallerAndHoldNoKey(t *testing.T) {
	b, server := onPrivatePostgres(t)
	keys := b.keys(t)
	_, root, err := keys.Create(t.Context(), admin.CLI(), admin.NewKey{Label: "root", IsSystem: true})
	if err != nil {
		t.Fatal(err)
	}
	key, plain := mint(t, keys, "Twitch Bot")
	gone, revoked := mint(t, keys, "gone")
	if _, err := keys.Revoke(t.Context(), admin.CLI(), gone.ID); err != nil {
		t.Fatal(err)
	}
	row, err := keys.Store.Key(t.Context(), key.ID)
	if err != nil {
		t.Fatal(err)
	}
	address, file := testenv.FreeAddress(t), filepath.Join(t.TempDir(), "log")
	load(t, fmt.Sprintf(`{
		admin off
		persist_config off
		log {
			output file %s
			level DEBUG
		}
		servers {
			trace
		}
		system_keys {
			%s
			secret a-secret-that-is-kept
		}
	}
	http://%s {
		log
		system_keys_admin
		system_key_auth
		reverse_proxy /down 127.0.0.1:1
		reverse_proxy %s
	}`, file, b.options, address, echo(t)))

	var minted string
	for _, authorization := range []string{"Bearer " + plain, "Bearer " + revoked, "Bearer " + plain + "x", "Token " + plain, "", plain} {
		for _, path := range []string{"/", "/down"} {
			get(t, "http://"+address+path, authorization)
		}
	}
	if status, _, body := do(t, http.MethodPost, "http://"+address+"/v1/admin/system-keys", "Bearer "+root, strings.NewReader(`{"label":"new"}`)); status == http.StatusCreated {
		var created struct {
			Data admin.KeyJSON `json:"data"`
		}
		if err := json.Unmarshal([]byte(body), &created); err != nil {
			t.Fatal(err)
		}
		minted = created.Data.Key
	} else {
		t.Fatalf("%d %s", status, body)
	}
	server.Kill()
	eventually(t, "the loss is noticed", func() bool {
		status, _, _ := get(t, "http://"+address, "Bearer "+plain)
		return status == http.StatusServiceUnavailable
	})
	do(t, http.MethodPost, "http://"+address+"/v1/admin/system-keys", "Bearer "+root, strings.NewReader(`{"label":"new"}`))

	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	log := string(content)
	for name, secret := range map[string]string{
		"the key": plain, "the admin's key": root, "the revoked key": revoked, "the key that was minted": minted,
		"the key's secret": plain[30:60], "the hash": string(row.Hash), "a secret of the configuration": "a-secret-that-is-kept",
	} {
		if i := strings.Index(log, secret); i >= 0 {
			t.Errorf("%s is in the log: …%s…", name, log[max(0, i-200):min(len(log), i+100)])
		}
	}
	if n := strings.Count(log, `"stacktrace"`); n > 0 || strings.Count(log, `"msg":"requests get 503"`) != 1 || strings.Count(log, `"msg":"admin call failed"`) != 1 {
		t.Errorf("there are %d stack traces, or not one line for all that failed:\n%s", n, log)
	}
	for _, want := range []string{
		`"user_id":"` + key.ID.String() + `"`, `"system_key_label":"Twitch Bot"`, "requests get 503",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("%s is not in the log", want)
		}
	}
}

// TestAuthenticationProvider puts the check into Caddy's own handler, beside
// basic authentication.
func TestAuthenticationProvider(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	key, plain := mint(t, keys, "bot", "bots:read")
	_, other := mint(t, keys, "other")
	address, file := testenv.FreeAddress(t), filepath.Join(t.TempDir(), "access.log")
	password, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	config := adapt(t, globals(b.options+"\n"+cheap)+fmt.Sprintf(`
		http://%s {
			log {
				output file %s
			}
			basic_auth {
				bob %s
			}
			reverse_proxy %s {
				header_down X-Seen "{http.auth.user.id}|{http.auth.user.label}|{http.auth.user.permissions}|{http.auth.user.type}"
			}
		}`, address, file, password, echo(t)))
	config = []byte(strings.Replace(string(config), `"providers":{`, `"providers":{"system_key":{"require":["bots:read"]},`, 1))
	loadJSON(t, config)

	status, header, body := get(t, "http://"+address, "Bearer "+plain)
	if want := key.ID.String() + "|bot|bots:read|system_key"; status != http.StatusOK || header.Get("X-Seen") != want {
		t.Errorf("%d, seen %q", status, header.Get("X-Seen"))
	}
	if !strings.Contains(body, "X-Lumio-Key-Id: "+key.ID.String()) || strings.Contains(body, "lm_sys_") {
		t.Errorf("the upstream received\n%s", body)
	}
	eventually(t, "the access log names the key", func() bool {
		log, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(log), `"user_id":"`+key.ID.String()+`"`) && strings.Contains(string(log), `"system_key_label":"bot"`)
	})
	// Caddy asks its providers in random order: ours must leave the credential of
	// another one alone.
	for range 50 {
		status, header, body := get(t, "http://"+address, "Basic Ym9iOnNlY3JldA==")
		if status != http.StatusOK || !strings.HasPrefix(header.Get("X-Seen"), "bob|") || strings.Contains(body, "X-Lumio") {
			t.Fatalf("basic authentication got %d, seen %q", status, header.Get("X-Seen"))
		}
	}
	for _, bad := range []string{"", "Bearer " + other, "Bearer " + plain + "x", "Basic Ym9iOndyb25n"} {
		if status, header, _ := get(t, "http://"+address, bad); status != http.StatusUnauthorized || header.Get("Www-Authenticate") == "" {
			t.Errorf("%q got %d %v", bad, status, header)
		}
	}
}
