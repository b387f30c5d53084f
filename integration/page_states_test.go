package integration_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/crypto/bcrypt"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/coherence"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// state is a state of the page, and the way of a browser to it from the state before.
type state struct {
	name  string
	reach func(b *tab)
}

// TestEveryStateOfThePage brings a browser into each state that the page has, has
// axe-core look at it in both themes, and takes a picture of each where SCREENSHOTS
// names a folder. The states of a walk share a site and a browser.
func TestEveryStateOfThePage(t *testing.T) {
	folder := os.Getenv("SCREENSHOTS")
	for name, walk := range map[string]func(t *testing.T) (*tab, []state){
		"sign-in": signInStates, "empty": emptyStates, "list": listStates, "dialogs": dialogStates, "faults": faultStates,
	} {
		t.Run(name, func(t *testing.T) {
			b, states := walk(t)
			b.bringAxe()
			for _, s := range states {
				t.Run(s.name, func(t *testing.T) {
					defer func(outer testing.TB) { b.t = outer }(b.t)
					b.t = t
					b.width(1100)
					s.reach(b)
					b.do(chromedp.Evaluate[chromedp.Void]("document.fonts.ready.then(() => undefined)", chromedp.EvalAwaitPromise))
					for _, theme := range []string{"light", "dark"} {
						b.theme(theme)
						rules := "{}"
						if theme == "dark" { // which differs in its colours alone
							rules = `{runOnly: ["color-contrast"]}`
						}
						for _, violation := range b.axe(rules) {
							t.Errorf("%s: %s", theme, violation)
						}
						if folder != "" {
							b.screenshot(filepath.Join(folder, s.name+"-"+theme+".png"))
						}
					}
				})
			}
		})
	}
}

// demoKeys are keys as they may be in production.
func (s *pageSite) demoKeys(tb testing.TB) map[string]*store.Key {
	tb.Helper()
	keys := make(map[string]*store.Key)
	for i, k := range []struct {
		label       string
		permissions []string
		expires     time.Duration
		age, used   time.Duration
	}{
		{"Grafana", []string{"metrics:read"}, 0, 400 * 24 * time.Hour, 0},
		{"Old importer", []string{"catalog:write"}, 0, 300 * 24 * time.Hour, 200 * 24 * time.Hour},
		{"Nightly backup", []string{"catalog:read", "users:read"}, 12 * 24 * time.Hour, 90 * 24 * time.Hour, 7 * time.Hour},
		{"Transcoder worker", []string{"jobs:claim", "jobs:finish", "media:read", "media:write"}, 0, 60 * 24 * time.Hour, 2 * time.Hour},
		{"Discord Bot Key", []string{"bots:read", "chat:write"}, 0, 14 * 24 * time.Hour, 26 * time.Hour},
		{"Release pipeline", []string{"catalog:write"}, 75 * time.Hour, 30 * 24 * time.Hour, 5 * time.Hour},
		{"Summer campaign", []string{"chat:write"}, -50 * time.Hour, 30 * 24 * time.Hour, 51 * time.Hour},
		{"Everything robot", everything(), 90 * 24 * time.Hour, 6 * 24 * time.Hour, 30 * time.Hour},
		{"Twitch Bot Key", []string{"bots:read", "bots:write", "chat:write"}, 0, 3 * 24 * time.Hour, 95 * time.Minute},
	} {
		// Minted when they were minted: by a service whose clock goes after.
		then := *s.keys
		then.Now = func() time.Time { return time.Now().Add(-k.age).Add(time.Duration(i) * time.Second) }
		want := admin.NewKey{Label: k.label, Permissions: k.permissions}
		if k.label == "Transcoder worker" {
			want.Networks = []string{"192.0.2.0/24", "2001:db8:85a3::/48"}
		}
		if k.expires != 0 {
			want.ExpiresAt = time.Now().Add(k.expires)
		}
		key, _, err := then.Create(tb.Context(), admin.CLI(), want)
		if err != nil {
			tb.Fatal(err)
		}
		if k.used > 0 {
			s.use(tb, key, k.used)
		}
		keys[k.label] = key
	}
	return keys
}

// everything are 50 permissions.
func everything() (all []string) {
	for _, resource := range []string{"bots", "catalog", "chat", "jobs", "media", "metrics", "payouts", "reports", "streams", "users"} {
		for _, action := range []string{"create", "delete", "list", "read", "write"} {
			all = append(all, resource+":"+action)
		}
	}
	return all
}

// use says that a key was last used so long ago.
func (s *pageSite) use(tb testing.TB, key *store.Key, ago time.Duration) {
	tb.Helper()
	if err := s.keys.Store.RecordUse(tb.Context(), []store.Use{{ID: key.ID, At: time.Now().Add(-ago)}}); err != nil {
		tb.Fatal(err)
	}
}

// wear has a key used for 90 days, as a worker is that has moved a week ago.
func (s *pageSite) wear(tb testing.TB, key *store.Key) {
	tb.Helper()
	now := time.Now()
	use := store.Use{ID: key.ID, First: now.AddDate(0, -6, 0), At: now.Add(-time.Minute)}
	for i := range store.Day(store.ActivityDays) {
		day := store.DayUse{Day: store.DayOf(now) - i, Requests: 400 + int64(i*37%211)}
		if (day.Day.Start().Weekday()+1)%7 < 2 {
			day.Requests /= 4
		}
		if i == 20 {
			day.Denied = 180
		}
		use.Days = append(use.Days, day)
	}
	for address, ages := range map[string][2]int{"192.0.2.7": {180, 6}, "2001:db8:85a3::1": {6, 0}} {
		use.Networks = append(use.Networks, store.NetworkUse{
			Network: store.NetworkOf(address), FirstAt: now.AddDate(0, 0, -ages[0]), LastAt: now.AddDate(0, 0, -ages[1]).Add(-time.Minute),
			Requests: int64(400 * (ages[0] - ages[1])),
		})
	}
	for _, permission := range key.Permissions[:3] {
		use.Asked = append(use.Asked, store.AskedPermission{Permission: permission, LastAt: now.Add(-time.Minute)})
	}
	if err := s.keys.Store.RecordUse(tb.Context(), []store.Use{use}); err != nil {
		tb.Fatal(err)
	}
}

func signInStates(t *testing.T) (*tab, []state) {
	t.Helper()
	s := newPageSite(t, onSQLite(t), "")
	return openTab(t, s.url), []state{
		{"sign-in", func(b *tab) {
			b.open("/system")
			b.state("signin")
		}},
		{"sign-in-wrong", func(b *tab) {
			b.signIn("lm_sys_" + strings.Repeat("0", 76))
			b.sees("main", "This key is not valid.")
		}},
		{"no-access", func(b *tab) {
			_, plain := mint(b.t, s.keys, "Twitch Bot Key", "bots:read")
			b.signIn(plain)
			b.state("problem-forbidden") // the sign-in form names the permission too
			b.sees("main", "admin:access")
		}},
		{"other-network", func(b *tab) {
			_, plain, err := s.keys.Create(b.t.Context(), admin.CLI(), admin.NewKey{Label: "Office", IsSystem: true, Networks: []string{"192.0.2.0/24"}})
			if err != nil {
				b.t.Fatal(err)
			}
			b.signIn(plain)
			b.state("problem-network_not_allowed")
			b.sees("main", "may not be used from the network that you are in")
		}},
		{"list-not-allowed", func(b *tab) {
			_, plain := mint(b.t, s.keys, "Minting robot", admin.PermissionAccess, admin.PermissionCreate)
			b.signIn(plain)
			b.sees("#keys", "system-keys:read")
		}},
		{"signed-out", func(b *tab) {
			b.choose("header button", "Sign out")
			b.sees("main", "You are signed out.")
		}},
		{"session-ended", func(b *tab) {
			key, plain := s.admin(b.t)
			b.signIn(plain)
			b.state("list")
			s.revoke(b.t, key)
			b.open("/system")
			b.sees("main", "Your session has ended. Sign in again.")
		}},
		{"session-ended-meanwhile", func(b *tab) {
			key, plain := s.admin(b.t)
			b.signIn(plain)
			b.state("list")
			s.revoke(b.t, key)
			b.sees("main h1", "Session ended") // without a reload
			b.gone("#keys")
		}},
	}
}

func emptyStates(t *testing.T) (*tab, []state) {
	t.Helper()
	return openTab(t, trustingSite(t)), []state{{"empty", func(b *tab) {
		b.open("/system")
		b.sees("#keys", "No keys yet")
	}}}
}

func listStates(t *testing.T) (*tab, []state) {
	t.Helper()
	s := newPageSite(t, onSQLite(t), "")
	keys := s.demoKeys(t)
	link := testenv.Proxy(t, strings.TrimPrefix(s.url, "http://"))
	s.url = "http://" + link.Addr()
	listed := func(b *tab) {
		b.open("/system")
		b.sees("tbody", "Grafana")
	}
	return s.signedIn(t), []state{
		{"list", listed},
		{"list-phone", func(b *tab) {
			listed(b)
			b.width(360)
		}},
		{"list-wide", func(b *tab) {
			listed(b)
			b.width(1440)
			b.sees("thead", "Networks")
			b.sees("thead", "Expires")
			b.sees("td[data-column=expires_at] .expiry", "in 3 days")
			b.gone(".along")
		}},
		{"list-tablet", func(b *tab) {
			listed(b)
			b.width(820)
		}},
		{"list-phone-networks", func(b *tab) {
			b.open("/system?sort=created_at")
			b.width(360)
			eval[chromedp.Void](b, "(document.querySelector("+js(in(keys["Transcoder worker"], ""))+").scrollIntoView(), undefined)")
		}},
		{"list-unfolded", func(b *tab) {
			listed(b)
			row := in(keys["Everything robot"], "")
			if height := eval[int](b, "document.querySelector("+js(row)+").offsetHeight"); height > 200 {
				b.t.Errorf("the row is %d pixels high", height)
			}
			b.choose("tbody summary", "+46 more")
			b.sees(row, "users:write")
		}},
		{"list-found-by-id", func(b *tab) {
			listed(b)
			id := keys["Grafana"].ID.String()
			b.fill("#search", strings.ToUpper(id[20:]))
			b.sees("#keys .count", "1 key(s)")
			b.sees("tbody", id)
		}},
		{"list-none", func(b *tab) {
			listed(b)
			b.fill("#search", "nobody")
			b.state("none")
		}},
		{"list-unused", func(b *tab) {
			listed(b)
			b.click("[name=unused]")
			b.sees("#keys .count", "2 key(s)")
		}},
		{"list-expiring", func(b *tab) {
			listed(b)
			b.sees(".expiry.soon", "expires in 3 days")
			b.gone(".expiry.over")
			b.do(chromedp.SetValue("#expiry", "soon"), chromedp.Evaluate[chromedp.Void]("document.querySelector('#expiry').dispatchEvent(new Event('input', {bubbles: true}))"))
			b.sees("#keys .count", "1 key(s)")
			b.sees("tbody", "Release pipeline")
		}},
		{"list-expired", func(b *tab) {
			b.open("/system?expiry=over")
			b.sees("#keys .count", "1 key(s)")
			b.sees(".expiry.over", "expired 2 days ago")
		}},
		{"list-expired-phone", func(b *tab) {
			b.open("/system?expiry=over")
			b.sees("tbody", "Summer campaign")
			b.width(360)
		}},
		{"activity", func(b *tab) {
			bot, plain := mint(b.t, s.keys, "Stream deck", "bots:read")
			for range 3 {
				get(b.t, s.url+"/v1/streams", "Bearer "+plain)
			}
			get(b.t, s.url+"/v1/admin/system-keys", "Bearer "+plain)
			s.revoke(b.t, keys["Old importer"])
			b.open("/system")
			b.sees("tbody", "Stream deck")
			b.click(in(bot, "a.quiet"))
			b.sees("#audit", "Denied")
			b.sees("#audit .chip", "Stream deck")
		}},
		{"activity-used", func(b *tab) {
			s.wear(b.t, keys["Transcoder worker"])
			listed(b)
			b.click(in(keys["Transcoder worker"], "a.quiet"))
			b.sees("[data-use]", "holds 4 permissions, 3 were asked for")
			b.sees("[data-use]", "new")
			b.until("document.querySelectorAll('.bars .bar').length > 80")
		}},
		{"activity-used-phone", func(b *tab) {
			b.width(360)
			b.sees("[data-use]", "Never asked for")
			eval[chromedp.Void](b, "(document.querySelector('#audit').scrollIntoView(), undefined)")
		}},
		{"loading", func(b *tab) {
			listed(b)
			link.Slow(15 * time.Second)
			b.t.Cleanup(link.Heal)
			b.choose("thead a", "Label")
			b.until("document.querySelector('#keys[aria-busy=true]')")
		}},
		{"list-german", func(b *tab) {
			listed(b)
			b.choose("nav a", "Deutsch")
			b.sees("#keys h2", "System-API-Schlüssel")
			b.sees(".expiry.soon", "läuft ab in 3 Tagen")
			for _, width := range []int{320, 360, 767, 1023, 1024, 1087, 1088, 1120, 1343, 1344, 1407, 1408, 1100} {
				b.width(width)
				const beyond = "Math.max(...[...document.querySelectorAll('main table')].map(t => t.getBoundingClientRect().right - t.closest('section').getBoundingClientRect().right))"
				if pixels := eval[float64](b, beyond); pixels > 0 {
					b.t.Errorf("at %d pixels a table is %v pixels wider than its card", width, pixels)
				}
				if needed := eval[int](b, "document.documentElement.scrollWidth"); needed > width {
					beyond := eval[[]string](b, fmt.Sprintf("[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > %d).map(e => e.outerHTML.slice(0, 100))", width))
					b.t.Errorf("the list needs %d pixels of %d: %q", needed, width, beyond)
				}
				if tall := eval[int](b, "Math.max(...[...document.querySelectorAll('code[id^=id-]')].map(e => e.getClientRects().length))"); tall != 1 {
					b.t.Errorf("an id has %d lines at %d pixels", tall, width)
				}
			}
		}},
		{"activity-used-german", func(b *tab) {
			listed(b)
			b.click(in(keys["Transcoder worker"], "a.quiet"))
			b.sees("[data-use]", "hat 4 Berechtigungen, 3 davon wurden verlangt")
		}},
	}
}

// trustingSite is one whose users basic_auth knows.
func trustingSite(t *testing.T) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(plane.Password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	address := run(t, onSQLite(t), fmt.Sprintf(`
		basic_auth {
			ada %s
		}
		map {http.auth.user.id} {admin_system} {
			ada true
		}
		system_keys_admin {
			trust_auth_user {
				system {admin_system}
			}
		}
		respond "upstream"`, hash))
	return "http://ada:" + strings.ReplaceAll(plane.Password, " ", "%20") + "@" + address
}

func (s *pageSite) revoke(tb testing.TB, key *store.Key) {
	tb.Helper()
	revocation, err := s.keys.Revoke(tb.Context(), admin.CLI(), key.ID)
	if err == nil {
		_, err = revocation.Wait(tb.Context(), nil)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

func dialogStates(t *testing.T) (*tab, []state) {
	t.Helper()
	s := newPageSite(t, onSQLite(t), "")
	keys := s.demoKeys(t)
	create := func(b *tab) {
		b.open("/system")
		b.choose("a", "Create Key")
		b.state("create")
	}
	created := func(b *tab) {
		b.fill("#label", "Twitch Bot Key")
		b.fill("#permissions", "bots:read")
		b.choose("dialog button", "Create Key")
		b.state("reveal")
		// Not a real one in a picture.
		eval[chromedp.Void](b, "(document.getElementById('new-key').textContent = 'lm_sys_' + 'Example0'.repeat(9) + 'Exam', undefined)")
	}
	return s.signedIn(t), []state{
		{"create", create},
		{"create-more", func(b *tab) {
			create(b)
			b.fill("#label", "Twitch Bot Key")
			b.choose(".suggestions button", "bots:read")
			b.choose(".suggestions button", "chat:write")
			if typed := eval[string](b, "document.querySelector('#permissions').value"); typed != "bots:read chat:write " {
				b.t.Errorf("the suggestions gave %q", typed)
			}
		}},
		{"create-wrong", func(b *tab) {
			create(b)
			b.fill("#label", "   ")
			b.fill("#permissions", "bots:read")
			b.choose("dialog button", "Create Key")
			b.sees("dialog", "A label has 1 to 100 characters")
		}},
		{"create-none", func(b *tab) {
			create(b)
			b.fill("#label", "Twitch Bot Key")
			b.choose("dialog button", "Create Key")
			b.sees("dialog", "This key would hold no permission.")
		}},
		{"reveal", func(b *tab) {
			create(b)
			created(b)
		}},
		{"reveal-phone", func(b *tab) {
			create(b)
			b.width(360)
			created(b)
		}},
		{"rotate", func(b *tab) {
			b.open("/system")
			b.choose("tbody a", "Rotate Discord Bot Key")
			b.state("rotate")
		}},
		{"rotated", func(b *tab) {
			b.choose("dialog button", "Rotate")
			b.state("reveal")
			b.sees("dialog", "The old key ends in 7 days, or 1 hour after the first use of this one")
			eval[chromedp.Void](b, "(document.getElementById('new-key').textContent = 'lm_sys_' + 'Example0'.repeat(9) + 'Exam', undefined)")
		}},
		{"list-rotated", func(b *tab) {
			b.open("/system?q=discord")
			b.sees("tbody", "replaced by …")
			b.sees("tbody", "ends in 7 days")
			b.sees("tbody", "replaces …")
		}},
		{"list-rotated-phone", func(b *tab) {
			b.open("/system?q=discord")
			b.width(360)
			b.until("document.documentElement.scrollWidth <= 360")
		}},
		{"activity-rotated", func(b *tab) {
			old, err := s.keys.Get(b.t.Context(), admin.CLI(), keys["Discord Bot Key"].ID)
			if err != nil {
				b.t.Fatal(err)
			}
			s.use(b.t, &store.Key{ID: old.ReplacedBy}, 30*time.Minute)
			at := time.Now().Add(-4 * time.Minute)
			err = s.keys.Store.RecordUse(b.t.Context(), []store.Use{{
				ID: old.ID, First: at, At: at, Days: []store.DayUse{{Day: store.DayOf(at), Requests: 37}},
				Networks: []store.NetworkUse{{Network: store.NetworkOf("192.0.2.7"), FirstAt: at, LastAt: at, Requests: 37}},
			}})
			if err != nil {
				b.t.Fatal(err)
			}
			b.open("/system?activity=" + old.ID.String() + "#audit")
			b.sees("[data-use]", "requests with this key")
			b.sees("[data-use]", "192.0.2.0/24 last 4 minutes ago")
		}},
		{"revoke", func(b *tab) {
			b.open("/system")
			b.click(in(keys["Old importer"], "a.danger"))
			b.state("revoke")
		}},
		{"revoke-in-use", func(b *tab) {
			s.use(b.t, keys["Twitch Bot Key"], 4*time.Minute)
			b.open("/system")
			b.click(in(keys["Twitch Bot Key"], "a.danger"))
			b.sees("dialog", "Type the label to confirm")
		}},
		{"revoked", func(b *tab) {
			for i := range 2 {
				s.member(b.t, fmt.Sprintf("api-%d.lumio.example", i+2))
			}
			bot, plain := mint(b.t, s.keys, "Chat relay", "chat:write")
			for range 2 {
				s.hang(b.t, plain)
			}
			b.open("/system")
			b.sees("tbody", "Chat relay")
			b.soon(shows(in(bot, "[data-used]"), "just now"))
			b.click(in(bot, "a.danger"))
			b.fill("#confirm", "Chat relay")
			b.choose("dialog button", "Revoke")
			b.sees("dialog", "3 of 3 instances refuse it, 2 requests cut")
		}},
		{"revoking", func(b *tab) { // the last, as the silent instance stays
			s.silent(b.t, "api-2.lumio.example")
			b.open("/system")
			b.click(in(keys["Grafana"], "a.danger"))
			b.choose("dialog button", "Revoke")
			b.sees("dialog", "2 of 3 instances refuse it")
			b.sees("dialog", "api-2.lumio.example")
		}},
		{"rotate-german-phone", func(b *tab) {
			b.open("/system?lang=de")
			b.width(360)
			b.choose("tbody a", "Twitch Bot Key ersetzen")
			b.sees("dialog", "Diesen Schlüssel ersetzen?")
		}},
		{"create-none-german-phone", func(b *tab) {
			b.open("/system?lang=de")
			b.width(360)
			b.choose("a", "Schlüssel erstellen")
			b.fill("#label", "Twitch Bot Key")
			b.choose("dialog button", "Schlüssel erstellen")
			b.sees("dialog", "Ohne Berechtigungen erstellen")
			b.width(360)
		}},
	}
}

// member is one more instance on the store.
func (s *pageSite) member(tb testing.TB, name string) {
	tb.Helper()
	f := coherence.Start(coherence.Config{
		Store: s.keys.Store, Forget: func(store.ID) {}, ForgetAll: func() {}, Name: name, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
		Lease: coherence.NewLease(30*time.Second, time.Now), InFlight: coherence.NewInFlight(time.Now),
	})
	tb.Cleanup(func() { _ = f.Close() })
	select {
	case <-f.Ready():
	case <-time.After(patience):
		tb.Fatal("the instance has no lease")
	}
}

// silent are two instances, one of which does not answer any more.
func (s *pageSite) silent(tb testing.TB, name string) {
	tb.Helper()
	s.member(tb, "api-3.lumio.example")
	feed, err := s.keys.Store.Follow(tb.Context())
	if err == nil {
		err = feed.Join(tb.Context(), &store.Member{ID: store.NewAuditID(time.Now()), Name: name, TTL: 30 * time.Second})
	}
	if err == nil {
		err = feed.Close()
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// hang makes a request that the API does not answer, and returns when it has come
// there.
func (s *pageSite) hang(tb testing.TB, key string) {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, s.url+"/hang", http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	go func() {
		if response, err := http.DefaultTransport.RoundTrip(request); err == nil {
			_ = response.Body.Close()
		}
	}()
	select {
	case <-s.hanging:
	case <-time.After(patience):
		tb.Fatal("the request did not arrive")
	}
}

// slowEcho is an API like echo, in which requests for /hang stay.
func slowEcho(tb testing.TB) (address string, hanging <-chan struct{}) {
	tb.Helper()
	arrived := make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			arrived <- struct{}{}
			<-r.Context().Done()
			return
		}
		_ = r.Header.Write(w)
	}))
	tb.Cleanup(api.Close)
	return api.Listener.Addr().String(), arrived
}
