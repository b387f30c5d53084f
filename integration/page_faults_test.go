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
func faultStates(t *testing.T) (*tab, []state) {
	t.Helper()
	backend, server := onPrivatePostgres(t)
	s := newPageSite(t, backend, "")
	_, robot := mint(t, s.keys, "Ada's laptop", admin.PermissionAccess, admin.PermissionRead, admin.PermissionCreate, "bots:read")
	b := openTab(t, s.url)
	b.signIn(robot)
	return b, []state{
		{"not-found", func(b *tab) {
			b.open("/system/nowhere")
			b.sees("main h1", "Not found")
		}},
		{"offline", func(b *tab) {
			b.open("/system")
			b.state("list")
			b.online(false)
			b.sees("#banner", "You are offline.")
		}},
		{"online-again", func(b *tab) {
			b.online(true)
			b.gone("#banner")
		}},
		{"store-gone-meanwhile", func(b *tab) {
			server.Stop()
			b.soon(shows("#banner", "The key store does not answer at the moment."))
			b.sees("tbody", "Ada's laptop") // what is known stays
		}},
		{"store-back", func(b *tab) {
			server.Start()
			b.soon("!document.querySelector('#banner').checkVisibility()")
		}},
		{"permission-lost-to-create", func(b *tab) {
			b.choose("a", "Create Key")
			b.fill("#label", "Twitch Bot Key")
			b.fill("#permissions", "bots:read")
			runSQL(b.t, backend, "UPDATE system_keys SET permissions = '{admin:access,system-keys:read,system-keys:create}'")
			b.choose("dialog button", "Create Key")
			b.sees("dialog", "You can only grant permissions that you hold yourself.")
		}},
		{"permission-lost-meanwhile", func(b *tab) {
			b.open("/system")
			b.state("list")
			runSQL(b.t, backend, "UPDATE system_keys SET permissions = '{system-keys:read}'")
			b.soon(shows("main h1", "A permission is missing"))
			b.sees("main", "admin:access")
		}},
		{"store-down", func(b *tab) {
			server.Stop()
			b.open("/system")
			b.sees("main", "The key store does not answer at the moment.")
			if status := eval[int](b, "performance.getEntriesByType('navigation')[0].responseStatus"); status != 503 {
				b.t.Errorf("the page has status %d", status)
			}
		}},
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
