package integration_test

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/jackc/pgx/v5"

	"github.com/lumio-vision/caddy-system-keys/admin"
)

// faultStates are those in which something is missing: the store, the network, or
// what the admin was allowed to do a moment ago.
func faultStates(*testing.T) map[string]func(*testing.T, string) *tab {
	return map[string]func(*testing.T, string) *tab{
		"store-down": func(t *testing.T, _ string) *tab {
			backend, server := onPrivatePostgres(t)
			b := newPageSite(t, backend, "").signedIn(t)
			server.Stop()
			b.open("/system")
			b.sees("main", "The key store does not answer at the moment.")
			if status := eval[int](b, "performance.getEntriesByType('navigation')[0].responseStatus"); status != 503 {
				t.Errorf("the page has status %d", status)
			}
			return b
		},
		"store-gone-meanwhile": func(t *testing.T, _ string) *tab {
			backend, server := onPrivatePostgres(t)
			b := newPageSite(t, backend, "").signedIn(t)
			server.Stop()
			b.sees("#banner", "The key store does not answer at the moment.")
			b.sees("tbody", "Ada's laptop") // what is known stays
			return b
		},
		"store-back": func(t *testing.T, _ string) *tab {
			backend, server := onPrivatePostgres(t)
			b := newPageSite(t, backend, "").signedIn(t)
			server.Stop()
			b.sees("#banner", "The key store does not answer at the moment.")
			server.Start()
			b.gone("#banner")
			return b
		},
		"offline": func(t *testing.T, _ string) *tab {
			b := newPageSite(t, onSQLite(t), "").signedIn(t)
			b.online(false)
			b.sees("#banner", "You are offline.")
			return b
		},
		"online-again": func(t *testing.T, _ string) *tab {
			b := newPageSite(t, onSQLite(t), "").signedIn(t)
			b.online(false)
			b.sees("#banner", "You are offline.")
			b.online(true)
			b.gone("#banner")
			return b
		},
		"session-ended-meanwhile": func(t *testing.T, _ string) *tab {
			s := newPageSite(t, onSQLite(t), "")
			key, plain := s.admin(t)
			b := openTab(t, s.url)
			b.signIn(plain)
			b.state("list")
			s.revoke(t, key)
			b.sees("main h1", "Session ended") // without a reload
			b.gone("#keys")
			return b
		},
		"permission-lost-meanwhile": func(t *testing.T, _ string) *tab {
			backend, _ := onPrivatePostgres(t)
			s := newPageSite(t, backend, "")
			_, plain := mint(t, s.keys, "Ada's laptop", admin.PermissionAccess, admin.PermissionRead)
			b := openTab(t, s.url)
			b.signIn(plain)
			b.state("list")
			runSQL(t, backend, "UPDATE system_keys SET permissions = '{system-keys:read}'")
			b.sees("main h1", "A permission is missing")
			b.sees("main", "admin:access")
			return b
		},
		"permission-lost-to-create": func(t *testing.T, _ string) *tab {
			backend, _ := onPrivatePostgres(t)
			s := newPageSite(t, backend, "")
			_, plain := mint(t, s.keys, "Ada's laptop", admin.PermissionAccess, admin.PermissionRead, admin.PermissionCreate, "bots:read")
			b := openTab(t, s.url)
			b.signIn(plain)
			b.choose("a", "Create Key")
			b.fill("#label", "Twitch Bot Key")
			b.click("summary")
			b.fill("#permissions", "bots:read")
			runSQL(t, backend, "UPDATE system_keys SET permissions = '{admin:access,system-keys:read,system-keys:create}'")
			b.choose("dialog button", "Create Key")
			b.sees("dialog", "You can only grant permissions that you hold yourself.")
			return b
		},
		"not-found": func(t *testing.T, _ string) *tab {
			b := newPageSite(t, onSQLite(t), "").signedIn(t)
			b.open("/system/nowhere")
			b.sees("main h1", "Not found")
			return b
		},
	}
}

// online switches the network of the browser off and on.
func (b *tab) online(on bool) {
	b.t.Helper()
	conditions := &network.Conditions{DownloadThroughput: -1, UploadThroughput: -1, Offline: !on}
	command(b, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
		MatchedNetworkConditions: []*network.Conditions{conditions},
	})
	command(b, network.OverrideNetworkState, network.OverrideNetworkStateParams{
		Offline: !on, DownloadThroughput: -1, UploadThroughput: -1,
	})
}

// runSQL runs a statement as another service would.
func runSQL(tb testing.TB, b *backend, statement string) {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), strings.Fields(b.options)[2])
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = conn.Close(tb.Context()) }()
	if _, err := conn.Exec(tb.Context(), statement); err != nil {
		tb.Fatal(err)
	}
}
