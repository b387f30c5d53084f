package integration_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// ownPath finds what a page leads to on this host: links, forms and files.
var ownPath = regexp.MustCompile(`(?:href|action|src)="([^"#?]+)`)

// TestTheAdminPlaneStaysBelowItsMount: by handle_path and by base, links, forms and _links stay
// below the mount, and the two pages of one host have sessions of their own.
func TestTheAdminPlaneStaysBelowItsMount(t *testing.T) {
	backend := onSQLite(t)
	site := &pageSite{keys: backend.keys(t)}
	_, plain := site.admin(t)
	site.url = "http://" + run(t, backend, `
		handle_path /lumio/* {
			system_keys_admin
			respond "below" 418
		}
		handle_path /outer/* {
			system_keys_admin {
				base /inner
			}
			respond "below" 418
		}
		handle {
			system_keys_admin {
				base /based
			}
			respond "outside" 418
		}`)
	at, err := url.Parse(site.url)
	if err != nil {
		t.Fatal(err)
	}
	v := plane.Visit(t, site.url)
	for _, mount := range []string{"/lumio", "/based", "/outer/inner"} {
		stays := func(what string, a plane.Reply, status int) {
			t.Helper()
			found := ownPath.FindAllStringSubmatch(a.Body, -1)
			for _, path := range found {
				if !strings.HasPrefix(path[1], mount+"/") {
					t.Errorf("%s leads to %q", what, path[1])
				}
			}
			if a.Status != status || len(found) == 0 {
				t.Errorf("%s: %d with %d paths: %s", what, a.Status, len(found), a.Body)
			}
		}
		stays("the sign-in of "+mount, v.Get(mount+"/system"), http.StatusOK)
		a := v.Post(mount+"/system/session", "key", plain)
		if a.Status != http.StatusSeeOther || a.Header.Get("Location") != mount+"/system" {
			t.Fatalf("sign-in got %d, Location %q", a.Status, a.Header.Get("Location"))
		}
		if cookie := a.Header.Get("Set-Cookie"); !strings.Contains(cookie, "Path=/;") {
			t.Errorf("the cookie is %q", cookie)
		}
		stays("the page", v.Get(mount+"/system"), http.StatusOK)
		stays("what names nothing", v.Get(mount+"/system/none"), http.StatusNotFound)
		form := v.Get(mount + "/system/create")
		stays("the form", form, http.StatusOK)
		made := v.Post(mount+"/api/system-keys", "nonce", form.Nonce(t, mount+"/api/system-keys"), "label", "made", "permissions", "bots:read")
		stays("the new key", made, http.StatusCreated)

		a = v.Send(http.MethodPost, mount+"/v1/admin/system-keys", admin.MediaJSON, `{"label":"by the API"}`, "Authorization", "Bearer "+plain)
		var answer struct {
			Data  struct{ ID string }
			Links map[string]struct{ Href string } `json:"_links"`
		}
		if err := json.Unmarshal([]byte(a.Body), &answer); err != nil || a.Status != http.StatusCreated {
			t.Fatalf("creating got %d %s (%v)", a.Status, a.Body, err)
		}
		keys := mount + "/v1/admin/system-keys"
		if self := keys + "/" + answer.Data.ID; answer.Links["self"].Href != self || answer.Links["collection"].Href != keys || a.Header.Get("Location") != self {
			t.Errorf("the links are %v, Location %q", answer.Links, a.Header.Get("Location"))
		}
		stays("the question", v.Get(mount+"/system/keys/"+answer.Data.ID+"/revoke"), http.StatusOK)
		list := v.Get(keys+"?limit=1", "Authorization", "Bearer "+plain)
		if !strings.Contains(list.Body, `"next":{"href":"`+keys+`?`) || !strings.Contains(list.Body, `"self":{"href":"`+keys+`?limit=1"}`) {
			t.Errorf("the list got %d %s", list.Status, list.Body)
		}
		if a := v.Get(mount + "//v1/admin/system-keys"); a.Status/100 != 4 || strings.Contains(a.Body, "below") || strings.Contains(a.Body, "outside") {
			t.Errorf("another spelling got %d %s", a.Status, a.Body)
		}
	}
	if a := v.Get("/v1/admin/system-keys"); a.Body != "outside" {
		t.Errorf("without the mount: %d %s", a.Status, a.Body)
	}
	names := make(map[string]bool)
	for _, cookie := range v.Client.Jar.Cookies(at) {
		names[cookie.Name] = true
	}
	if len(names) != 3 {
		t.Errorf("three pages have the cookies %v", names)
	}
}
