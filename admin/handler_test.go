package admin_test

import (
	"net/http"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// TestIncidentCSRF has a browser that is signed in by basic_auth be made to send
// what a page of another site can, with and without the headers that newer ones
// add.
func TestIncidentCSRF(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	ada := p.ByName("ada")
	victim, _ := p.Mint(t, "victim")
	const create = `{"label":"ghost","is_system":true}`
	mutation := plane.GQL(`mutation { adminCreateSystemKey(input: {label: "ghost", isSystem: true}) { key } }`)
	for _, forged := range []struct {
		name         string
		method, path string
		body         string
		header       []string
	}{
		{"a form", "POST", plane.KeysPath, create, []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"a form with a file", "POST", plane.KeysPath, create, []string{"Content-Type", "multipart/form-data; boundary=x"}},
		{"plain text", "POST", plane.KeysPath, create, []string{"Content-Type", "text/plain"}},
		{"plain text that mentions JSON", "POST", plane.KeysPath, create, []string{"Content-Type", "text/plain; application/json"}},
		{"a body without a type", "POST", plane.KeysPath, create, []string{"Content-Type", ""}},
		{"fetch from another site", "POST", plane.KeysPath, create, []string{"Sec-Fetch-Site", "cross-site"}},
		{"fetch from a subdomain of the same site", "POST", plane.KeysPath, create, []string{"Sec-Fetch-Site", "same-site"}},
		{"an older browser", "POST", plane.KeysPath, create, []string{"Origin", "https://evil.example"}},
		{"a sandboxed frame", "POST", plane.KeysPath, create, []string{"Origin", "null"}},
		{"a deletion from another site", "DELETE", plane.KeysPath + "/" + victim.ID.String(), "", []string{"Sec-Fetch-Site", "cross-site"}},
		{"a deletion from an older browser", "DELETE", plane.KeysPath + "/" + victim.ID.String(), "", []string{"Origin", "https://evil.example"}},
		{"a form in the place of a deletion", "POST", plane.KeysPath + "/" + victim.ID.String(), "_method=DELETE", []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"a method in a header", "POST", plane.KeysPath + "/" + victim.ID.String(), "{}", []string{"X-Http-Method-Override", "DELETE"}},
		{"a mutation as plain text", "POST", admin.GraphQLPath, mutation, []string{"Content-Type", "text/plain"}},
		{"a mutation as a form", "POST", admin.GraphQLPath, mutation, []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"a mutation from another site", "POST", admin.GraphQLPath, mutation, []string{"Sec-Fetch-Site", "cross-site"}},
		{"a mutation in an image", "GET", admin.GraphQLPath + "?query=mutation%7BadminDeleteSystemKey(id%3A%22x%22)%7Bid%7D%7D", "", nil},
	} {
		a := ada.Call(t, forged.method, forged.path, forged.body, forged.header...)
		if a.Status != http.StatusForbidden && a.Status != http.StatusUnsupportedMediaType && a.Status != http.StatusMethodNotAllowed {
			t.Errorf("%s: got %d %s", forged.name, a.Status, a.Body)
		}
		if a.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: another site may read it: %v", forged.name, a.Header)
		}
	}
	if n := p.Total(t); n != 1 {
		t.Errorf("there are %d keys, not 1", n)
	}
}
