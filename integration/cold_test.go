package integration_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/caddymodule/app"
)

// TestManyClientsStartCold has 64 clients ask for the first time with one key.
func TestManyClientsStartCold(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			_, plain := mint(t, b.keys(t), "bot")
			address := run(t, b, "system_key_auth\nreverse_proxy "+echo(t))
			statuses := make([]int, 64)
			start := make(chan struct{})
			var wg sync.WaitGroup
			for i := range statuses {
				wg.Go(func() {
					<-start
					statuses[i], _, _ = get(t, "http://"+address, "Bearer "+plain)
				})
			}
			close(start)
			wg.Wait()
			for _, status := range statuses {
				if status != http.StatusOK {
					t.Errorf("a client got %d", status)
				}
			}
			if stats := app.Stats(); stats.Argon2Runs != 1 {
				t.Errorf("%d Argon2id computations, not 1", stats.Argon2Runs)
			}
		})
	}
}

// TestUnmintedKeysCostNothing sends 10,000 keys that nobody minted (SOAK=1; otherwise
// 500).
func TestUnmintedKeysCostNothing(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			address := run(t, b, "system_key_auth {\nfailure_limit 1000000 1s\n}\nreverse_proxy "+echo(t))
			client := &http.Client{}
			defer client.CloseIdleConnections()
			n := 500
			if soak() {
				n = 10_000
			}
			for i := range n {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Authorization", "Bearer lm_sys_"+fmt.Sprintf("%076d", i))
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				if response.StatusCode != http.StatusUnauthorized {
					t.Fatalf("got %d", response.StatusCode)
				}
			}
			if stats := app.Stats(); stats.Argon2Runs != 0 || stats.RowReads != 0 {
				t.Errorf("they cost %+v", stats)
			}
		})
	}
}

// TestErrorRoutes has a server that handles errors: it gets Caddy's error, with
// the headers set, and the handler writes nothing itself.
func TestErrorRoutes(t *testing.T) {
	b := onSQLite(t)
	_, plain := mint(t, b.keys(t), "bot")
	upstream := echo(t)
	address := run(t, b, `
		system_key_auth {
			require bots:read
		}
		reverse_proxy `+upstream+`
		handle_errors {
			@denied expression {err.status_code} == 403
			reverse_proxy @denied `+upstream+`
			respond "{err.status_code} {err.message}" {err.status_code}
		}`)
	status, header, body := get(t, "http://"+address, "")
	if status != http.StatusUnauthorized || body != "401 a system key is required" || header.Get("Www-Authenticate") != `Bearer realm="lumio"` {
		t.Errorf("%d %v %q", status, header, body)
	}
	// An error route may be a proxy: neither the key nor a forged header reaches it.
	if _, _, body = get(t, "http://"+address, "Bearer "+plain); strings.Contains(body, "lm_sys_") || strings.Contains(body, "X-Lumio") {
		t.Errorf("an error route's upstream received\n%s", body)
	}
}

// TestPlaceholdersAndTwoHandlers uses what is said of the caller elsewhere in the
// configuration, and has a stricter block in front of the site's.
func TestPlaceholdersAndTwoHandlers(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	key, plain := mint(t, keys, "Grün 100%", "bots:read")
	address := run(t, b, `
		system_key_auth /strict/* {
			require bots:write
		}
		system_key_auth /bots/* {
			require bots:read
		}
		system_key_auth {
			passthrough
		}
		reverse_proxy `+echo(t)+` {
			header_down X-Seen "{http.auth.user.id}|{http.auth.user.label}|{http.auth.user.permissions}|{http.auth.user.type}"
		}`)
	seen := key.ID.String() + "|Grün 100%|bots:read|system_key"
	for _, path := range []string{"/", "/bots/x"} {
		status, header, body := get(t, "http://"+address+path, "Bearer "+plain)
		if status != http.StatusOK || header.Get("X-Seen") != seen {
			t.Errorf("%s: %d %q", path, status, header.Get("X-Seen"))
		}
		if !strings.Contains(body, "X-Lumio-Key-Label: Gr%C3%BCn 100%25\r\n") || strings.Contains(body, "lm_sys_") {
			t.Errorf("%s: the upstream received\n%s", path, body)
		}
	}
	if status, _, _ := get(t, "http://"+address+"/strict/x", "Bearer "+plain); status != http.StatusForbidden {
		t.Errorf("the stricter block let a key through: %d", status)
	}
	if status, _, body := get(t, "http://"+address, ""); status != http.StatusOK || strings.Contains(body, "X-Lumio") {
		t.Errorf("a request without a key: %d %s", status, body)
	}
}

// TestCorruptRowsAreNobodysKey has a row with a hash that cannot be used.
func TestCorruptRowsAreNobodysKey(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	key, plain := mint(t, keys, "bot")
	if err := keys.Store.RehashKey(t.Context(), key.ID, key.Hash, "$argon2id$v=19$m=999999999,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA"); err != nil {
		t.Fatal(err)
	}
	address := run(t, b, "system_key_auth\nreverse_proxy "+echo(t))
	if status, _, _ := get(t, "http://"+address, "Bearer "+plain); status != http.StatusServiceUnavailable {
		t.Errorf("got %d", status)
	}
	if stats := app.Stats(); stats.Argon2Runs != 0 {
		t.Error("a row ordered a computation beyond the bounds")
	}
}
