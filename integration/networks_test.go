package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// fence mints a key for 192.0.2.0/24 and 2001:db8::/32.
func fence(tb testing.TB, keys *admin.Service, label string, isSystem bool) (*store.Key, string) {
	tb.Helper()
	key, plain, err := keys.Create(tb.Context(), admin.CLI(), admin.NewKey{
		Label: label, Permissions: []string{"bots:read"}, IsSystem: isSystem, Networks: []string{"192.0.2.0/24", "2001:db8::/32"},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return key, plain
}

// denials are the statuses and addresses of the denials of a key, newest first.
func denials(tb testing.TB, s store.Store, key store.ID) (all []string) {
	tb.Helper()
	page, err := s.Audit(tb.Context(), &store.AuditQuery{Limit: store.MaxAuditLimit, Key: key, Event: store.AuditDenied})
	if err != nil {
		tb.Fatal(err)
	}
	for _, r := range page.Records {
		var details struct{ Reason string }
		if err := json.Unmarshal(r.Details, &details); err != nil {
			tb.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%d %s %q %s", r.Request.Status, details.Reason, r.Request.ClientIP, r.Key.Label))
	}
	return all
}

// TestTheNetworksOfAKey has clients in and outside of them, at a server that trusts a proxy
// and at one that trusts none.
func TestTheNetworksOfAKey(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	key, plain := fence(t, keys, "fenced", false)
	open, openKey := mint(t, keys, "open", "bots:read")
	trusting, alone := testenv.FreeAddress(t), testenv.FreeAddress(t)
	log := filepath.Join(t.TempDir(), "access.log")
	options := strings.Replace(globals(b.options+"\n"+cheap+"last_used_interval 1s"), "grace_period 1s",
		"grace_period 1s\nservers "+strings.TrimPrefix(trusting, "127.0.0.1")+" {\n"+behindAProxy+"\n}", 1)
	load(t, options+fmt.Sprintf(`http://%s {
		log {
			output file %s
		}
		system_key_auth /writing {
			require bots:write
		}
		system_key_auth
		respond ok
		handle_errors {
			system_key_auth {
				passthrough
			}
			respond "an error page"
		}
	}
	http://%s {
		system_key_auth
		respond ok
	}`, trusting, log, alone))

	inside := []string{"192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "192.0.2.1:4711", "192.0.2.7, 198.51.100.1", "2001:db8::1%eth0"}
	outside := []string{"", "198.51.100.1", "::1", "::ffff:198.51.100.1", "198.51.100.1, 192.0.2.1", "unknown", "192.0.2.1.", "192.0.2.0/24"}
	for _, client := range outside {
		reply := from(t, client, trusting, "Bearer "+plain)
		reply.Must(t, http.StatusForbidden, nil)
		if !strings.Contains(reply.Body, `"network_not_allowed"`) || reply.Header.Get("Www-Authenticate") != "" {
			t.Errorf("%q: %s %v", client, reply.Body, reply.Header)
		}
		from(t, client, trusting, "Bearer "+openKey).Must(t, http.StatusOK, nil)
		from(t, client, alone, "Bearer "+plain).Must(t, http.StatusForbidden, nil)
	}
	for _, client := range inside { // whoever may say anything is not asked
		from(t, client, alone, "Bearer "+plain).Must(t, http.StatusForbidden, nil)
		from(t, client, alone, "Bearer "+openKey).Must(t, http.StatusOK, nil)
	}
	eventually(t, "the use of the other key is written", func() bool {
		row, err := keys.Store.Key(t.Context(), open.ID)
		return err == nil && !row.LastUsedAt.IsZero()
	})
	if row, err := keys.Store.Key(t.Context(), key.ID); err != nil || !row.LastUsedAt.IsZero() {
		t.Errorf("a key that was only refused counts as used at %v, %v", row.LastUsedAt, err)
	}
	eventually(t, "the denials are on record", func() bool {
		all := strings.Join(denials(t, keys.Store, key.ID), "\n")
		return strings.Contains(all, `403 network_not_allowed "198.51.100.1" fenced`) && strings.Contains(all, `403 network_not_allowed "127.0.0.1" fenced`)
	})
	if text, err := os.ReadFile(log); err != nil || !strings.Contains(string(text), `"system_key_refused":"network"`) {
		t.Errorf("the access log does not say why: %v", err)
	}
	for _, client := range inside {
		from(t, client, trusting, "Bearer "+plain).Must(t, http.StatusOK, nil)
	}
	eventually(t, "the use is written", func() bool {
		row, err := keys.Store.Key(t.Context(), key.ID)
		return err == nil && !row.LastUsedAt.IsZero()
	})
}

// TestAClientWithoutAnAddressIsInNoNetwork comes over a Unix socket.
func TestAClientWithoutAnAddressIsInNoNetwork(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	key, plain := fence(t, keys, "fenced", false)
	_, openKey := mint(t, keys, "open")
	folder, err := os.MkdirTemp("", "socket") // t.TempDir may be too long for one
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	socket := filepath.Join(folder, "caddy")
	if err := caddy.Load(adapt(t, globals(b.options+"\n"+cheap)+"http:// {\nbind unix/"+socket+"\nsystem_key_auth\nrespond ok\n}\n"), true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	for plain, want := range map[string]int{plain: http.StatusForbidden, openKey: http.StatusOK} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+plain)
		request.Header.Set("X-Forwarded-For", "192.0.2.1")
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("got %d, want %d", response.StatusCode, want)
		}
	}
	eventually(t, "the denial is on record", func() bool {
		return strings.Join(denials(t, keys.Store, key.ID), "") == `403 network_not_allowed "" fenced`
	})
}

// TestAnUpdateOfTheNetworksCutsFromOutside has requests in flight whose key had no networks.
func TestAnUpdateOfTheNetworksCutsFromOutside(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			keys := b.keys(t)
			key, plain := mint(t, keys, "bot", "bots:read")
			asked := make(chan struct{}, 8)
			end := make(chan struct{})
			upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/hang" {
					asked <- struct{}{}
					select {
					case <-r.Context().Done():
					case <-end:
					}
				}
			}))
			t.Cleanup(upstream.Close)
			address := testenv.FreeAddress(t)
			load(t, strings.Replace(globals(b.options+"\n"+cheap), "grace_period 1s", "grace_period 1s\nservers {\n"+behindAProxy+"\n}", 1)+
				fmt.Sprintf("http://%s {\nsystem_key_auth\nreverse_proxy %s\n}\n", address, upstream.Listener.Addr()))
			type answer struct {
				client, body string
				status       int
			}
			answers := make(chan answer, 4)
			call := func(client, path string) answer {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, http.NoBody)
				if err != nil {
					t.Error(err)
					return answer{}
				}
				request.Header.Set("Authorization", "Bearer "+plain)
				request.Header.Set("X-Forwarded-For", client)
				response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
				if err != nil {
					t.Errorf("%s: %v", client, err)
					return answer{}
				}
				defer func() { _ = response.Body.Close() }()
				body, _ := io.ReadAll(response.Body)
				return answer{client, string(body), response.StatusCode}
			}
			for _, client := range []string{"192.0.2.1", "198.51.100.1", "2001:db8::1", "::1"} {
				go func() { answers <- call(client, "/hang") }()
				<-asked
			}
			written := `'{192.0.2.0/24,2001:db8::/32}'`
			if b.name == "sqlite" {
				written = `'["192.0.2.0/24","2001:db8::/32"]'`
			}
			b.plainSQL(t, "UPDATE system_keys SET networks = "+written+" WHERE id = '"+key.ID.String()+"'")
			for range 2 {
				got := <-answers
				if got.client != "198.51.100.1" && got.client != "::1" || got.status != http.StatusForbidden || !strings.Contains(got.body, "network_not_allowed") {
					t.Errorf("cut: %+v", got)
				}
			}
			if got := call("192.0.2.1", "/"); got.status != http.StatusOK {
				t.Errorf("from inside, after the change: %+v", got)
			}
			if got := call("198.51.100.1", "/"); got.status != http.StatusForbidden {
				t.Errorf("from outside, after the change: %+v", got)
			}
			select {
			case got := <-answers:
				t.Errorf("cut from inside: %+v", got)
			default:
			}
			close(end)
			for range 2 {
				if got := <-answers; got.status != http.StatusOK {
					t.Errorf("from inside: %+v", got)
				}
			}
		})
	}
}

// TestTheProviderOfAFencedKey knows only 401, for clients and for the audit log.
func TestTheProviderOfAFencedKey(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	key, plain := fence(t, keys, "fenced", false)
	address := testenv.FreeAddress(t)
	config := adapt(t, strings.Replace(globals(b.options+"\n"+cheap+"last_used_interval 1s"), "grace_period 1s", "grace_period 1s\nservers {\n"+behindAProxy+"\n}", 1)+
		fmt.Sprintf("http://%s {\nbasic_auth {\nada $2a$04$WPdGMhyNAtDnHSvFRPOfIOMNO5J.f2hXAbH8k2RKbfkGpCBMl6WAC\n}\nrespond ok\n}\n", address))
	loadJSON(t, []byte(strings.Replace(string(config), `"providers":{`, `"providers":{"system_key":{},`, 1)))
	from(t, "198.51.100.1", address, "Bearer "+plain).Must(t, http.StatusUnauthorized, nil)
	from(t, "192.0.2.1", address, "Bearer "+plain).Must(t, http.StatusOK, nil)
	eventually(t, "the denial is on record", func() bool {
		return strings.Join(denials(t, keys.Store, key.ID), "") == `401 network_not_allowed "198.51.100.1" fenced`
	})
}

// TestTheAdminPlaneOfAFencedKey has its bearer, and then its session, come from elsewhere.
func TestTheAdminPlaneOfAFencedKey(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	key, plain := fence(t, keys, "fenced", true)
	address := testenv.FreeAddress(t)
	load(t, strings.Replace(globals(b.options+"\n"+cheap), "grace_period 1s", "grace_period 1s\nservers {\n"+behindAProxy+"\n}", 1)+
		fmt.Sprintf("http://%s {\nsystem_keys_admin\n}\n", address))
	client := "192.0.2.1"
	c := &plane.Caller{URL: "http://" + address, Authorize: func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+plain)
		r.Header.Set("X-Forwarded-For", client)
	}}
	call := func(method, path, body string, want int) {
		t.Helper()
		if got := c.Call(t, method, path, body); got.Status != want || want == http.StatusForbidden && !strings.Contains(got.Body, "network_not_allowed") {
			t.Errorf("%s %s from %s: %d %s", method, path, client, got.Status, got.Body)
		}
	}
	call(http.MethodGet, plane.KeysPath, "", http.StatusOK)
	call(http.MethodPost, plane.KeysPath, `{"label":"x"}`, http.StatusCreated)
	client = "198.51.100.1"
	call(http.MethodGet, plane.KeysPath, "", http.StatusForbidden)
	call(http.MethodPost, plane.KeysPath, `{"label":"x"}`, http.StatusForbidden)
	call(http.MethodPost, "/v1/gql", `{"query":"{ adminSystemKeys { total } }"}`, http.StatusForbidden)
	call(http.MethodDelete, plane.KeysPath+"/"+key.ID.String(), "", http.StatusForbidden)
	eventually(t, "the denials are on record", func() bool {
		all := denials(t, keys.Store, key.ID)
		return len(all) == 4 && all[0] == `403 network_not_allowed "198.51.100.1" fenced`
	})
}
