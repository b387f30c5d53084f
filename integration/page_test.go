package integration_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// pageSite is a site with a System page in front of an API.
type pageSite struct {
	keys *admin.Service
	url  string
	// hanging tells of each request for /hang that has come to the API.
	hanging <-chan struct{}
}

func newPageSite(tb testing.TB, b *backend, options string) *pageSite {
	tb.Helper()
	keys := b.keys(tb)
	b = &backend{options: b.options + "\nlast_used_interval 100ms\naudit_requests all\n" + options}
	api, hanging := slowEcho(tb)
	return &pageSite{
		keys: keys, hanging: hanging,
		url: "http://" + run(tb, b, "system_keys_admin\nsystem_key_auth\nreverse_proxy "+api),
	}
}

// admin mints the key of a system admin.
func (s *pageSite) admin(tb testing.TB) (*store.Key, string) {
	tb.Helper()
	key, plain, err := s.keys.Create(tb.Context(), admin.CLI(), admin.NewKey{Label: "Ada's laptop", IsSystem: true})
	if err != nil {
		tb.Fatal(err)
	}
	return key, plain
}

// signedIn is a browser in which a system admin has signed in.
func (s *pageSite) signedIn(tb testing.TB) *tab {
	tb.Helper()
	_, plain := s.admin(tb)
	b := openTab(tb, s.url)
	b.signIn(plain)
	b.sees("#keys", "key(s)")
	return b
}

// in is the selector of something in the row of a key.
func in(key *store.Key, selector string) string {
	return fmt.Sprintf("tr[data-id=%q] %s", key.ID.String(), selector)
}

// TestTheSeedStory is what an admin does: a key is created, copied and put away,
// used, seen to be used, and revoked.
func TestTheSeedStory(t *testing.T) {
	for _, backend := range backends(t) {
		t.Run(backend.name, func(t *testing.T) {
			site := newPageSite(t, backend, "")
			b := site.signedIn(t)
			b.grant("clipboard-read", "clipboard-write")
			b.sees("#keys .count", "1 key(s)")

			b.choose("a", "Create Key")
			b.sees("dialog h1", "Create System API Key")
			if placeholder := eval[string](b, "document.querySelector('#label').placeholder"); placeholder != "Twitch Bot Key" {
				t.Errorf("the placeholder is %q", placeholder)
			}
			b.fill("#label", "Twitch Bot Key")
			b.fill("#permissions", "bots:read bots:write")
			b.choose("dialog button", "Create Key")

			b.sees("dialog h1", "API Key Created — Save Your Key")
			b.sees("dialog", "This key will only be shown once. Copy it now and store it securely.")
			key := b.text("#new-key")
			if !keyPattern.MatchString(key) {
				t.Fatalf("the key is %q", key)
			}
			if example := b.text("dialog pre"); !strings.Contains(example, "curl") || strings.Contains(example, "lm_sys_") {
				t.Errorf("the example is %q", example)
			}
			b.choose("dialog button", "Copy Key")
			b.sees("dialog button", "Copied")
			if copied := eval[string](b, "navigator.clipboard.readText()"); copied != key {
				t.Errorf("the clipboard has %q", copied)
			}
			b.choose("dialog a", "Dismiss")
			b.gone("dialog")
			b.sees("#keys .count", "2 key(s)")
			b.sees("tbody tr:first-child", "Twitch Bot Key")
			b.sees("tbody tr:first-child [data-used]", "—")

			if status, _, body := get(t, site.url+"/hello", "Bearer "+key); status != http.StatusOK || !strings.Contains(body, "X-Lumio-Permissions: bots:read,bots:write") {
				t.Fatalf("the call got %d %s", status, body)
			}
			b.sees("tbody tr:first-child [data-used]", "just now") // without a reload

			b.choose("tbody tr:first-child a", "Revoke Twitch Bot Key")
			b.sees("dialog", "Twitch Bot Key")
			b.sees("dialog", "This key was used within the last hour.")
			b.fill("#confirm", "Twitch Bot")
			b.choose("dialog button", "Revoke")
			b.sees("dialog", "That is not the label of this key.")
			b.fill("#confirm", "Twitch Bot Key")
			b.choose("dialog button", "Revoke")
			b.sees("dialog h1", "Revoked")
			b.sees("dialog", "1 of 1 instances refuse it, 0 requests cut")
			if status, _, body := get(t, site.url+"/hello", "Bearer "+key); status != http.StatusUnauthorized {
				t.Errorf("the call got %d %s", status, body)
			}
			b.choose("dialog a", "Close")
			b.gone("dialog")
			b.sees("#keys .count", "1 key(s)")
			b.sees("#audit li[data-event='api_key.revoked']", "Twitch Bot Key")
			b.sees("#audit li[data-event='api_key.used']", "GET /hello")
		})
	}
}

// TestTheListIsSortedSearchedAndTurned walks through 87 keys.
func TestTheListIsSortedSearchedAndTurned(t *testing.T) {
	site := newPageSite(t, onSQLite(t), "")
	for i := range 86 {
		mint(t, site.keys, fmt.Sprintf("key %02d", i), fmt.Sprintf("p%02d:read", 86-i))
	}
	b := site.signedIn(t)
	b.sees(".pager", "Page 1 of 4 (87 keys)")
	first := b.texts("tbody .label")
	if len(first) != 25 || first[0] != "Ada's laptop" || first[1] != "key 85" {
		t.Fatalf("the first page is %q", first)
	}
	seen := slices.Clone(first)
	for page := 2; page <= 4; page++ {
		b.choose(".pager a", "Next")
		b.sees(".pager", fmt.Sprintf("Page %d of 4 (87 keys)", page))
		seen = append(seen, b.texts("tbody .label")...)
	}
	if last := b.texts("tbody .label"); len(last) != 12 || len(seen) != 87 || len(slices.Compact(slices.Sorted(slices.Values(seen)))) != 87 {
		t.Errorf("the last page has %d keys, all have %d", len(last), len(seen))
	}
	for page := 3; page >= 1; page-- {
		b.choose(".pager a", "Previous")
		b.sees(".pager", fmt.Sprintf("Page %d of 4 (87 keys)", page))
		if got, want := b.texts("tbody .label"), seen[(page-1)*25:page*25]; !slices.Equal(got, want) {
			t.Errorf("back on page %d: %q, want %q", page, got, want)
		}
	}

	b.choose("thead a", "Label")
	b.sees("tbody tr:nth-child(2) .label", "key 00")
	b.choose("thead a", "Label")
	b.sees("tbody tr:first-child .label", "key 85")
	b.choose("thead a", "Permissions")
	b.sees("tbody tr:nth-child(2) .tags", "p01:read")
	b.choose(".pager a", "Next")
	b.sees("tbody tr:first-child .tags", "p25:read")
	b.choose("thead a", "Last used")
	b.sees("th[aria-sort=ascending]", "Last used")
	b.until("location.search === '?sort=last_used_at'")

	b.fill("#search", "KEY 1")
	b.sees("#keys .count", "10 key(s)")
	b.until("new URLSearchParams(location.search).get('q') === 'KEY 1'")
	if focus := eval[string](b, "document.activeElement.id"); focus != "search" {
		t.Errorf("while typing the focus went to %q", focus)
	}
	b.fill("#search", "nobody")
	b.state("none")
	b.choose("#keys a", "Show all keys")
	b.sees("#keys .count", "87 key(s)")
	b.choose("thead a", "Created")
	b.sees("th[aria-sort=descending]", "Created")
	if typed := eval[string](b, "document.querySelector('#search').value"); typed != "" {
		t.Errorf("the search still has %q", typed)
	}
	b.do(chromedp.NavigateBack())
	b.sees("th[aria-sort=ascending]", "Last used")

	b.click("[name=unused]")
	b.sees("#keys .count", "86 key(s)") // all but the admin's own
}

// TestKeysThatAreTypedIntoTheSearchAreNotSent keeps them out of URLs and logs.
func TestKeysThatAreTypedIntoTheSearchAreNotSent(t *testing.T) {
	site := newPageSite(t, onSQLite(t), "")
	_, plain := mint(t, site.keys, "bot")
	b := site.signedIn(t)
	b.fill("#search", plain)
	b.sees("#banner", "This looks like a key.")
	b.press(kb.Enter)
	time.Sleep(500 * time.Millisecond) // longer than the pause of the search
	if requests := eval[[]string](b, "performance.getEntriesByType('resource').map(e => e.name).concat(location.href)"); slices.ContainsFunc(requests, func(u string) bool { return strings.Contains(u, "lm_sys_") }) {
		t.Errorf("it was sent: %q", requests)
	}
	b.fill("#search", "")
	b.gone("#banner")
}

// TestThePageSpeaksGerman by the browser's wish and by the admin's.
func TestThePageSpeaksGerman(t *testing.T) {
	site := newPageSite(t, onSQLite(t), "")
	_, plain := site.admin(t)
	b := openTab(t, site.url)
	b.language("de-DE,de;q=0.9,en;q=0.5")
	b.open("/system")
	b.sees("h1", "Anmelden")
	b.choose("nav a", "English")
	b.sees("h1", "Sign in")
	b.choose("nav a", "Deutsch")
	b.sees("h1", "Anmelden")
	b.language("en")
	b.fill("#key", plain)
	b.click("main button")
	b.sees("#keys h2", "System-API-Schlüssel")
	b.sees("tbody", "gerade eben")
	b.choose("a", "Schlüssel erstellen")
	b.sees("dialog h1", "System-API-Schlüssel erstellen")
	b.fill("#label", "Bot")
	b.choose("dialog button", "Schlüssel erstellen")
	b.sees("dialog", "Dieser Schlüssel hätte keine Berechtigung.")
	b.click("[name=without]")
	b.choose("dialog button", "Schlüssel erstellen")
	b.sees("dialog", "Dieser Schlüssel wird nur dieses eine Mal gezeigt.")
	if language := eval[string](b, "document.documentElement.lang"); language != "de" {
		t.Errorf("the page says that it is %q", language)
	}
}

// TestThePageWorksWithoutScripts for list, create and revoke.
func TestThePageWorksWithoutScripts(t *testing.T) {
	site := newPageSite(t, onSQLite(t), "")
	for i := range 30 {
		mint(t, site.keys, fmt.Sprintf("key %02d", i))
	}
	_, plain := site.admin(t)
	b := openTab(t, site.url)
	b.scripts(false)
	b.signIn(plain)
	b.sees(".pager", "Page 1 of 2 (31 keys)")
	b.choose(".pager a", "Next")
	b.sees(".pager", "Page 2 of 2 (31 keys)")
	b.fill("#search", "key 07")
	b.choose("#keys button", "Filter")
	b.sees("#keys .count", "1 key(s)")
	b.sees("tbody .label", "key 07")

	b.choose("a", "Create Key")
	b.fill("#label", "Without scripts")
	b.fill("#permissions", "bots:read, Bots")
	b.choose("form button", "Create Key") // the browser itself refuses
	b.sees("h1", "Create System API Key")
	b.fill("#permissions", "bots:read,bots:write")
	b.choose("form button", "Create Key")
	b.sees("h1", "API Key Created — Save Your Key")
	key := b.text("#new-key")
	if !keyPattern.MatchString(key) {
		t.Fatalf("the key is %q", key)
	}
	b.do(chromedp.Reload()) // which sends the form again
	b.sees("main", "This form was sent before.")
	b.gone("#new-key")
	if status, _, _ := get(t, site.url+"/hello", "Bearer "+key); status != http.StatusOK {
		t.Errorf("the call got %d", status)
	}
	b.open("/system?sort=-created_at")
	b.sees("#keys .count", "32 key(s)")

	b.choose("tbody tr:first-child a", "Revoke Without scripts")
	b.sees("h1", "Revoke this key?")
	if b.text("#confirm-help") == "" {
		b.do(chromedp.Reload()) // the last use is written within 100 ms
	}
	b.fill("#confirm", "without scripts")
	b.choose("form button", "Revoke")
	b.sees("main", "That is not the label of this key.")
	b.fill("#confirm", "Without scripts")
	b.choose("form button", "Revoke")
	b.sees("main", "1 of 1 instances refuse it, 0 requests cut")
	if status, _, _ := get(t, site.url+"/hello", "Bearer "+key); status != http.StatusUnauthorized {
		t.Errorf("the call got %d", status)
	}
	b.choose("a", "Close")
	b.sees("#keys .count", "31 key(s)")
	b.choose("header button", "Sign out")
	b.sees("main", "You are signed out.")
}

// TestThePageWorksByKeyboard alone, with the focus where it belongs.
func TestThePageWorksByKeyboard(t *testing.T) {
	site := newPageSite(t, onSQLite(t), "")
	_, plain := site.admin(t)
	b := openTab(t, site.url)
	b.open("/system")
	b.until("document.activeElement.id === 'key'")
	b.press(strings.Split(plain, "")...)
	b.press(kb.Enter)
	b.sees("#keys .count", "1 key(s)")

	b.press(kb.Tab)
	if focus := b.focus(); focus != "Skip to content" {
		t.Errorf("the first stop is %q", focus)
	}
	b.tabTo("a[href$='/create']")
	b.press(kb.Enter)
	b.sees("dialog h1", "Create System API Key")
	b.until("document.activeElement.id === 'label'")
	b.press(strings.Split("By keyboard", "")...)
	b.press(kb.Enter)
	b.sees("dialog", "This key would hold no permission.")
	b.until("document.activeElement.id === 'permissions'")
	b.press(strings.Split("bots:read", "")...)
	b.press(kb.Enter)
	b.sees("dialog h1", "API Key Created — Save Your Key")
	b.press(kb.Escape) // does not lose the key
	b.sees("dialog h1", "API Key Created — Save Your Key")
	b.tabTo("dialog [data-close]")
	b.press(kb.Enter)
	b.gone("dialog")
	b.sees("tbody tr:first-child", "By keyboard") // the list is another by now
	b.until("document.activeElement.matches('a[href$=\"/create\"]')")

	b.tabTo("tbody tr:first-child a.danger")
	b.press(kb.Enter)
	b.sees("dialog h1", "Revoke this key?")
	b.until("document.activeElement.innerText === 'Cancel'") // not what cannot be undone
	b.press(kb.Escape)
	b.gone("dialog")
	b.until("document.activeElement.matches('tbody tr:first-child a.danger')")
	b.press(kb.Enter)
	b.tabTo("dialog button.danger")
	b.press(kb.Enter)
	b.sees("dialog h1", "Revoked")
	b.tabTo("dialog [data-close]")
	b.press(kb.Enter)
	b.sees("#keys .count", "1 key(s)")
	b.until("document.activeElement.id === 'keys-title'") // the row is gone
	b.tabTo("thead a[href*='sort=label']")
	b.press(kb.Enter)
	b.until("document.activeElement.matches('thead a[href*=\"sort=-label\"]')")
}

// TestThePageFitsAPhone of 320 pixels, the narrowest there are (WCAG 1.4.10), with nothing cut
// off. German words are the longer ones.
func TestThePageFitsAPhone(t *testing.T) {
	site := newPageSite(t, onSQLite(t), "")
	long := strings.Repeat("Unterstützungsbot", 5)
	key, _ := mint(t, site.keys, long, "a-rather-long-resource:a-rather-long-action", "bots:read", "chat:write")
	b := site.signedIn(t)
	b.open("/system?lang=de")
	b.width(320)
	fits := func(what string) {
		t.Helper()
		if w := eval[int](b, "Math.max(document.documentElement.scrollWidth, ...[...document.querySelectorAll('dialog')].map(d => d.scrollWidth))"); w > 320 {
			t.Errorf("%s is %d pixels wide", what, w)
		}
	}
	fits("the page")
	b.sees("tbody", long)
	b.choose("a", "Schlüssel erstellen")
	b.sees("dialog h1", "System-API-Schlüssel erstellen")
	fits("the form")
	b.fill("#label", "phone")
	b.fill("#permissions", "bots:read")
	b.choose("dialog button", "Schlüssel erstellen")
	b.state("reveal")
	fits("the new key")
	b.choose("dialog a", "Verwerfen")
	b.gone("dialog")
	b.click(in(key, "a.danger"))
	b.state("revoke")
	fits("the question")
	b.choose("dialog button", "Widerrufen")
	b.state("revoked")
	fits("the answer")
}

// TestCreatingShowsThatItIsBusy until the answer comes.
func TestCreatingShowsThatItIsBusy(t *testing.T) {
	b := newPageSite(t, onSQLite(t), "").signedIn(t)
	b.choose("a", "Create Key")
	b.fill("#label", "slow")
	b.fill("#permissions", "bots:read")
	eval[chromedp.Void](b, "(window.send = fetch, window.fetch = (...call) => new Promise(done => window.answer = () => done(send(...call))), undefined)")
	b.choose("dialog button", "Create Key")
	b.until("document.querySelector('dialog form[aria-busy=true] button.primary:disabled')?.innerText === 'Creating…'")
	eval[chromedp.Void](b, "(window.answer(), undefined)")
	b.state("reveal")
}
