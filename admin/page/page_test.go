package page_test

import (
	"fmt"
	"html"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestThePagesAPISaysTheSame compares /api/system-keys with /v1/admin/system-keys.
func TestThePagesAPISaysTheSame(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	key, plain := p.MintAdmin(t)
	bot, _ := p.Mint(t, "bot", "bots:read")
	v := plane.Visit(t, p.URL)
	v.SignIn(plain)
	robot := p.As(plane.Bearer(plain))

	for _, path := range []string{"", "?limit=1&sort=label", "/" + bot.ID.String(), "/" + key.ID.String()[:35] + "x", "?limit=0"} {
		theirs, ours := robot.Call(t, http.MethodGet, "/v1/admin/system-keys"+path, ""), v.Get("/api/system-keys"+path)
		if diff := cmp.Diff(anonymous(theirs.Body), anonymous(ours.Body)); diff != "" || theirs.Status != ours.Status {
			t.Errorf("GET %s: %d and %d (-v1 +api):\n%s", path, theirs.Status, ours.Status, diff)
		}
	}

	var created plane.OneKey
	v.Send(http.MethodPost, "/api/system-keys", admin.MediaJSON, `{"label":"by script"}`).Must(t, http.StatusCreated, &created)
	if !regexp.MustCompile(`^lm_sys_[0-9A-Za-z]{76}$`).MatchString(created.Data.Key) || created.Links.Self.Href != "/v1/admin/system-keys/"+created.Data.ID.String() {
		t.Errorf("created %+v", created)
	}
	v.Send(http.MethodPost, "/api/system-keys", admin.MediaJSON, `{"label":""}`).Is(t, "no label", http.StatusUnprocessableEntity, "validation_failed")
	var revoked plane.OneRevoked
	v.Send(http.MethodDelete, "/api/system-keys/"+created.Data.ID.String(), "", "").Must(t, http.StatusOK, &revoked)
	if revoked.Data.Instances.Total != 1 || revoked.Data.Instances.Acknowledged != 1 {
		t.Errorf("revoked %+v", revoked)
	}

	// The cookie is for the page alone.
	v.Get("/v1/admin/system-keys").Is(t, "/v1 by cookie", http.StatusUnauthorized, "unauthorized")
	v.Send(http.MethodPost, "/v1/gql", admin.MediaJSON, `{"query":"{adminSystemKeys{total}}"}`).Is(t, "GraphQL by cookie", http.StatusUnauthorized, "unauthorized")
	plane.Visit(t, p.URL).Get("/api/system-keys").Is(t, "nobody", http.StatusUnauthorized, "unauthorized")
}

// anonymous is an answer without what differs from one request to the next.
func anonymous(body string) string {
	return regexp.MustCompile(`"(request_id|last_used_at)":("[^"]*"|null)`).ReplaceAllString(body, "")
}

// TestThePageSaysWhatABrowserMayDoWithIt in every answer.
func TestThePageSaysWhatABrowserMayDoWithIt(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	_, plain := p.MintAdmin(t)
	v := plane.Visit(t, p.URL)
	before := v.Get("/system")
	asset := regexp.MustCompile(`/system/assets/app\.[0-9a-f]+\.js`).FindString(before.Body)
	home := v.SignIn(plain)
	for name, a := range map[string]plane.Reply{
		"sign-in": before, "the page": home, "a script": v.Get(asset), "a form": v.Get("/system/create"), "nothing": v.Get("/system/x"),
		"a wrong key": v.Post("/system/session", "key", "x"), "a forged form": v.Post("/api/system-keys", "label", "x"),
		"a language": v.Get("/system?lang=de"), "a wrong method": v.Send(http.MethodPut, "/system", "", ""),
		"from elsewhere": plane.Visit(t, p.URL).Get("/system", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"),
	} {
		csp := a.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'; script-src 'self'; style-src 'self'") || strings.Contains(csp, "unsafe") ||
			!strings.Contains(csp, "frame-ancestors 'none'") || a.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", name, a.Status, a.Header)
		}
		if cache := a.Header.Get("Cache-Control"); name != "a script" && cache != "no-store" {
			t.Errorf("%s may be kept: %q", name, cache)
		}
	}
}

// TestTheFormsGrantNoMoreThanTheAdminHolds, and suggest no more.
func TestTheFormsGrantNoMoreThanTheAdminHolds(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	p.Mint(t, "other", "users:delete", "bots:read")
	_, plain := p.Mint(t, "admin", admin.PermissionAccess, admin.PermissionCreate, "bots:read")
	v := plane.Visit(t, p.URL)
	if a := v.Post("/system/session", "key", plain); a.Status != http.StatusSeeOther {
		t.Fatalf("sign-in got %d", a.Status)
	}
	form := v.Get("/system/create")
	suggested := regexp.MustCompile(`data-suggest="([^"]+)"`).FindAllStringSubmatch(form.Body, -1)
	var got []string
	for _, s := range suggested {
		got = append(got, s[1])
	}
	if want := []string{"admin:access", "bots:read", "system-keys:create"}; !slices.Equal(got, want) {
		t.Errorf("suggested are %q, want %q", got, want)
	}
	if strings.Contains(form.Body, "is_system") {
		t.Error("the form offers to make a system admin")
	}
	nonce := form.Nonce(t, "/api/system-keys")
	v.Post("/api/system-keys", "nonce", nonce, "label", "x", "permissions", "users:delete").Is(t, "more", http.StatusForbidden, "that you hold yourself")
	v.Post("/api/system-keys", "nonce", nonce, "label", "x", "is_system", "true").Is(t, "all", http.StatusForbidden, "that you hold yourself")
	v.Post("/api/system-keys", "nonce", nonce, "label", "x", "permissions", "Bots").Is(t, "no permission", http.StatusUnprocessableEntity, "resource:action")
	v.Post("/api/system-keys", "nonce", nonce, "label", "x", "permissions", "bots:read", "networks", "10.0.0.0/8 office").
		Is(t, "no network", http.StatusUnprocessableEntity, "an IP address or a prefix")
	v.Post("/api/system-keys", "nonce", nonce, "label", "x", "permissions", "bots:read", "expires_on", "2020-01-01").Is(t, "a day that is over", http.StatusUnprocessableEntity, "today or later")
	v.Post("/api/system-keys", "nonce", nonce, "label", "x", "label", "y").Is(t, "a field twice", http.StatusBadRequest, "cannot be understood")
	v.Post("/api/system-keys", "nonce", nonce, "label", "x", "permissions", "bots:read\nbots:read,", "networks", "2001:db8::1, 192.0.2.0/24\n192.0.2.0/24", "expires_on", "2030-06-01").
		Is(t, "no more than that", http.StatusCreated, "lm_sys_")
	page, err := p.Keys.List(t.Context(), admin.CLI(), &store.KeyQuery{Limit: 1, Sort: store.SortCreatedAt, Desc: true})
	if err != nil || page.Total != 3 || page.Keys[0].ExpiresAt.String() != "2030-06-02 00:00:00 +0000 UTC" || !slices.Equal(page.Keys[0].Permissions, []string{"bots:read"}) ||
		!slices.Equal(page.Keys[0].Networks.Strings(), []string{"192.0.2.0/24", "2001:db8::1/128"}) {
		t.Errorf("created %+v (%v)", page.Keys, err)
	}
}

// TestAKeyWithoutPermissionsIsAskedFor: the form refuses one that nobody has asked for. A
// system admin needs none.
func TestAKeyWithoutPermissionsIsAskedFor(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	_, plain := p.MintAdmin(t)
	v := plane.Visit(t, p.URL)
	v.SignIn(plain)
	create := func(fields ...string) plane.Reply {
		t.Helper()
		form := v.Get("/system/create")
		if strings.Contains(form.Body, `name="without"`) {
			t.Error("the form offers a key without permissions before it is asked for one")
		}
		return v.Post("/api/system-keys", append([]string{"nonce", form.Nonce(t, "/api/system-keys"), "label", "bare"}, fields...)...)
	}
	create("permissions", " , ").Is(t, "none", http.StatusUnprocessableEntity, `name="without"`)
	create("permissions", "", "without", "no").Is(t, "another word", http.StatusUnprocessableEntity, "would hold no permission")
	create("without", "true").Is(t, "none, as was asked", http.StatusCreated, "lm_sys_")
	create("is_system", "true").Is(t, "a system admin", http.StatusCreated, "lm_sys_")
	page, err := p.Keys.List(t.Context(), admin.CLI(), &store.KeyQuery{Limit: 5, Sort: store.SortCreatedAt, Search: "bare"})
	if err != nil || page.Total != 2 || len(page.Keys[0].Permissions) != 0 || page.Keys[0].IsSystem || !page.Keys[1].IsSystem {
		t.Errorf("created %+v (%v)", page, err)
	}
}

// TestThePageTakesIDsInCapitals walks through the page by links in which the ids
// are in capitals, and revokes by them, once more too.
func TestThePageTakesIDsInCapitals(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	_, root := p.MintAdmin(t)
	v := plane.Visit(t, p.URL)
	v.SignIn(root)
	bot, plain := p.Mint(t, "Capital Bot", "bots:read")
	capitals := strings.ToUpper(bot.ID.String())
	v.Get("/system?activity="+capitals).Is(t, "the list", http.StatusOK, "Capital Bot")
	for range 2 {
		form := v.Get("/system/keys/"+capitals+"/revoke").Is(t, "the form", http.StatusOK, "Capital Bot")
		nonce := form.Nonce(t, "/api/system-keys/"+bot.ID.String()+"/revoke")
		v.Post("/api/system-keys/"+capitals+"/revoke", "nonce", nonce).Is(t, "the answer", http.StatusOK, "Capital Bot")
	}
	other := plane.Visit(t, p.URL)
	other.Get("/v1/admin/system-keys", "Authorization", "Bearer "+plain).Is(t, "the key", http.StatusUnauthorized, "invalid_token")
	nobody := store.NewAuditID(time.Now()).String()
	v.Get("/system/keys/"+nobody+"/revoke").Is(t, "a form for nobody", http.StatusNotFound, "")
}

// TestTheListIsTurnedToItsEndAndBack: the last page has the rows that it has when it is
// reached page by page, and so has each page on the way back.
func TestTheListIsTurnedToItsEndAndBack(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	_, plain := p.MintAdmin(t)
	for range 77 {
		p.Mint(t, "bot", "bots:read")
	}
	v := plane.Visit(t, p.URL)
	a := v.SignIn(plain)
	rows := func() string {
		var ids []string
		for _, found := range regexp.MustCompile(`<tr[^>]* data-id="([^"]+)`).FindAllStringSubmatch(a.Body, -1) {
			ids = append(ids, found[1])
		}
		return strings.Join(ids, "\n")
	}
	turn := func(text string) {
		t.Helper()
		found := regexp.MustCompile(`href="([^"]*)" data-list>` + text + `</a>`).FindStringSubmatch(a.Body)
		if found == nil {
			t.Fatalf("there is no %s in %s", text, a.Body)
		}
		a = v.Get(html.UnescapeString(found[1]))
	}
	pages := []string{rows()}
	for range 3 {
		turn("Next")
		pages = append(pages, rows())
	}
	turn("First")
	turn("Last")
	for number := 4; ; number-- {
		if !strings.Contains(a.Body, fmt.Sprintf("Page %d of 4", number)) {
			t.Errorf("page %d does not say so", number)
		}
		if diff := cmp.Diff(pages[number-1], rows()); diff != "" || rows() == "" {
			t.Errorf("page %d on the way back (-forth +back):\n%s", number, diff)
		}
		if number == 1 {
			break
		}
		turn("Previous")
	}
	if n := strings.Count(pages[3], "\n") + 1; n != 3 {
		t.Errorf("the last page has %d rows", n)
	}
}
