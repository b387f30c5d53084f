package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// TestPublicKeys asks both handlers for them, as nobody, and as a cache does.
func TestPublicKeys(t *testing.T) {
	b := onSQLite(t)
	for name, directive := range map[string]string{
		"system_key_auth":   "system_key_auth {\nrequire a:b\n}",
		"system_keys_admin": "system_keys_admin {\nallowed_hosts keys.example.com\n}",
	} {
		t.Run(name, func(t *testing.T) {
			address := run(t, b, directive+"\nrespond upstream")
			location := (&url.URL{Scheme: "http", Host: address, Path: "/.well-known/lumio-keys.json"}).String()
			var set struct{ Keys []map[string]any }
			deadline := time.Now().Add(5 * time.Second)
			var header http.Header
			for len(set.Keys) == 0 && time.Now().Before(deadline) {
				status, h, body := get(t, location, "Bearer lm_sys_broken")
				if err := json.Unmarshal([]byte(body), &set); err != nil || status != http.StatusOK {
					t.Fatalf("%d %s", status, body)
				}
				header = h
			}
			if len(set.Keys) == 0 {
				t.Fatal("there are none")
			}
			for _, key := range set.Keys {
				if len(key) != 6 || key["kty"] != "OKP" || key["crv"] != "Ed25519" || key["use"] != "sig" || key["alg"] != "EdDSA" {
					t.Errorf("the key is %v", key)
				}
			}
			if header.Get("Content-Type") != "application/jwk-set+json" || !strings.Contains(header.Get("Cache-Control"), "max-age=60") {
				t.Errorf("the header is %v", header)
			}
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, location, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("If-None-Match", header.Get("Etag"))
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusNotModified {
				t.Errorf("who has it gets %d", response.StatusCode)
			}
			status, header, body := do(t, http.MethodPost, location, "", strings.NewReader("{}"))
			if status != http.StatusMethodNotAllowed || header.Get("Allow") != "GET, HEAD" {
				t.Errorf("POST: %d %v %s", status, header, body)
			}
		})
	}
}

// TestASigningKeySurvivesAReload of everything but the store.
func TestASigningKeySurvivesAReload(t *testing.T) {
	b := onSQLite(t)
	_, plain := mint(t, b.keys(t), "bot", "bots:read")
	var kids []any
	for _, option := range []string{"", "ttl 30s"} {
		address := testenv.FreeAddress(t)
		service := newService(t, address)
		load(t, globals(b.options+"\n"+cheap)+fmt.Sprintf("http://%s {\n%s\n}\n", address, signedSite(service, option, "")))
		if status, _, body := get(t, "http://"+address+"/bots/17", "Bearer "+plain); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
		header, _ := readAssertion(t, service.last.Header.Get("X-Lumio-Assertion"))
		kids = append(kids, header["kid"])
	}
	if kids[0] != kids[1] {
		t.Errorf("signed by %v", kids)
	}
}
