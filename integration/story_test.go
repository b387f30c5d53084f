package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
)

var keyPattern = regexp.MustCompile(`^lm_sys_[0-9A-Za-z]{76}$`)

// TestStory is the main job: mint a key over the API, call through the proxy with
// it, see it used, revoke it, get 401. On the embedded store, and on PostgreSQL
// with Redis.
func TestStory(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			keys := b.keys(t)
			root, rootKey, err := keys.Create(t.Context(), admin.CLI(), admin.NewKey{Label: "root", IsSystem: true})
			if err != nil {
				t.Fatal(err)
			}
			b.options += "\nlast_used_interval 100ms"
			address := run(t, b, fmt.Sprintf("system_keys_admin\nsystem_key_auth\nreverse_proxy %s", echo(t)))
			url := "http://" + address

			status, header, body := do(t, http.MethodPost, url+"/v1/admin/system-keys", "Bearer "+rootKey,
				strings.NewReader(`{"label":" Twitch Bot Key ","permissions":["chat:write","bots:read","bots:read"]}`))
			if status != http.StatusCreated || header.Get("Cache-Control") != "no-store" {
				t.Fatalf("%d %v %s", status, header, body)
			}
			var created struct {
				Data admin.KeyJSON `json:"data"`
			}
			if err := json.Unmarshal([]byte(body), &created); err != nil {
				t.Fatal(err)
			}
			bot := created.Data
			if !keyPattern.MatchString(bot.Key) || bot.Label != "Twitch Bot Key" ||
				strings.Join(bot.Permissions, " ") != "bots:read chat:write" || *bot.CreatedBy != root.ID.String() {
				t.Fatalf("%+v", bot)
			}
			if want := "/v1/admin/system-keys/" + bot.ID.String(); header.Get("Location") != want {
				t.Errorf("Location is %q", header.Get("Location"))
			}

			for range 3 {
				status, _, body = get(t, url+"/hello", "Bearer "+bot.Key)
				for _, line := range []string{
					"X-Lumio-Auth-Type: system_key", "X-Lumio-Key-Id: " + bot.ID.String(),
					"X-Lumio-Key-Label: Twitch Bot Key", "X-Lumio-Permissions: bots:read,chat:write",
				} {
					if status != http.StatusOK || !strings.Contains(body, line+"\r\n") {
						t.Fatalf("%d, no %q in\n%s", status, line, body)
					}
				}
				if strings.Contains(body, "lm_sys_") {
					t.Fatal("the key reached the upstream")
				}
			}

			eventually(t, "the last use appears", func() bool {
				_, _, body = get(t, url+"/v1/admin/system-keys/"+bot.ID.String(), "Bearer "+rootKey)
				var read struct {
					Data admin.KeyJSON `json:"data"`
				}
				return json.Unmarshal([]byte(body), &read) == nil && read.Data.LastUsedAt != nil
			})
			if strings.Contains(body, bot.Key[7:]) || strings.Contains(body, "argon2id") {
				t.Error("the key or its hash is shown again")
			}

			status, _, body = do(t, http.MethodDelete, url+"/v1/admin/system-keys/"+bot.ID.String(), "Bearer "+rootKey, nil)
			if status != http.StatusOK || !strings.Contains(body, bot.ID.String()) || !strings.Contains(body, "revoked_at") {
				t.Fatalf("%d %s", status, body)
			}
			status, header, body = get(t, url+"/hello", "Bearer "+bot.Key)
			if status != http.StatusUnauthorized || !strings.Contains(body, `"invalid_token"`) ||
				header.Get("Www-Authenticate") != `Bearer realm="lumio", error="invalid_token"` {
				t.Fatalf("%d %v %s", status, header, body)
			}
			if status, _, _ = do(t, http.MethodDelete, url+"/v1/admin/system-keys/"+bot.ID.String(), "Bearer "+rootKey, nil); status != http.StatusOK {
				t.Errorf("a second DELETE got %d", status)
			}
		})
	}
}

// TestARevocationElsewhereIsTrueWhenItIsAnswered revokes as another process does.
func TestARevocationElsewhereIsTrueWhenItIsAnswered(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			keys := b.keys(t)
			key, plain := mint(t, keys, "bot")
			address := run(t, b, "system_key_auth\nreverse_proxy "+echo(t))
			if status, _, body := get(t, "http://"+address, "Bearer "+plain); status != http.StatusOK {
				t.Fatalf("%d %s", status, body)
			}
			revoked := revokeAndWait(t, keys, key)
			if status, _, _ := get(t, "http://"+address, "Bearer "+plain); status != http.StatusUnauthorized {
				t.Errorf("got %d after the answer", status)
			}
			if r := revoked.Report; r.Total != 1 || r.Acknowledged != 1 {
				t.Errorf("the report is %+v", r)
			}
		})
	}
}

// eventually waits for something that another goroutine of the product does.
func eventually(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if done() {
			return
		}
	}
	tb.Fatalf("waited in vain: %s", what)
}
