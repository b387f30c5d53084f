package integration_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
)

// call is one request to the admin plane.
type call struct {
	name   string
	method string
	path   string
	auth   string
	header http.Header
	body   string
	status int
	code   string
	field  string // a member of error.fields
	says   string // a part of the message
}

func TestAdminAPIRefuses(t *testing.T) {
	b := onSQLite(t)
	keys := b.keys(t)
	_, root, err := keys.Create(t.Context(), admin.CLI(), admin.NewKey{Label: "root", IsSystem: true})
	if err != nil {
		t.Fatal(err)
	}
	_, reader := mint(t, keys, "reader", admin.PermissionRead)
	_, creator := mint(t, keys, "creator", admin.PermissionCreate, "bots:read")
	victim, _ := mint(t, keys, "victim")
	address := run(t, b, "system_keys_admin\nrespond \"upstream\"")

	const collection = "/v1/admin/system-keys"
	one := collection + "/" + victim.ID.String()
	nobody := collection + "/0197f000-0000-7000-8000-000000000000"
	label := func(s string) string { return fmt.Sprintf(`{"label":%q}`, s) }
	tests := []call{
		{name: "nobody", path: collection, status: 401, code: "unauthorized"},
		{name: "a key that was never minted", path: collection, auth: "lm_sys_" + strings.Repeat("0", 76), status: 401, code: "invalid_token"},
		{name: "a key in the query", path: collection + "?token=" + root, auth: root, status: 400, code: "invalid_request"},
		{name: "a list without the permission", path: collection, auth: creator, status: 403, code: "forbidden"},
		{name: "a key without the permission", path: one, auth: creator, status: 403, code: "forbidden"},
		{name: "a creation without the permission", method: "POST", path: collection, auth: reader, body: label("x"), status: 403, code: "forbidden"},
		{name: "a revocation without the permission", method: "DELETE", path: one, auth: reader, status: 403, code: "forbidden"},
		{name: "a permission that the creator does not hold", method: "POST", path: collection, auth: creator, body: `{"label":"x","permissions":["bots:read","bots:write"]}`, status: 403, code: "escalation"},
		{name: "a system admin by one who is none", method: "POST", path: collection, auth: creator, body: `{"label":"x","is_system":true}`, status: 403, code: "escalation"},
		{name: "a key that is not there", path: nobody, auth: root, status: 404, code: "not_found"},
		{name: "a revocation of a key that is not there", method: "DELETE", path: nobody, auth: root, status: 404, code: "not_found"},
		{name: "an id with an encoded digit", path: collection + "/%30" + victim.ID.String()[1:], auth: root, status: 404, code: "not_found"},
		{name: "no id at all", path: collection + "/x", auth: root, status: 404, code: "not_found"},
		{name: "an update", method: "PATCH", path: one, auth: root, body: label("x"), status: 405, code: "method_not_allowed"},
		{name: "a revocation of all keys", method: "DELETE", path: collection, auth: root, status: 405, code: "method_not_allowed"},
		{name: "XML", path: collection, auth: root, header: http.Header{"Accept": {"application/xml"}}, status: 406, code: "not_acceptable"},
		{name: "a form", method: "POST", path: collection, auth: root, body: label("x"), header: http.Header{"Content-Type": {"text/plain"}}, status: 415, code: "unsupported_media_type"},
		{name: "a body over 64 KiB", method: "POST", path: collection, auth: root, body: label(strings.Repeat("x", 64<<10)), status: 413, code: "too_large"},
		{name: "half an object", method: "POST", path: collection, auth: root, body: `{"label":"x"`, status: 400, code: "invalid_request"},
		{name: "two objects", method: "POST", path: collection, auth: root, body: `{"label":"x"}{}`, status: 400, code: "invalid_request"},
		{name: "a list", method: "POST", path: collection, auth: root, body: `[]`, status: 400, code: "invalid_request"},
		{name: "null", method: "POST", path: collection, auth: root, body: `null`, status: 400, code: "invalid_request"},
		{name: "nothing", method: "POST", path: collection, auth: root, body: ` `, status: 400, code: "invalid_request"},
		{name: "an unknown field", method: "POST", path: collection, auth: root, body: `{"label":"x","name":"y"}`, status: 400, code: "invalid_request", says: "name"},
		{name: "a field in another case", method: "POST", path: collection, auth: root, body: `{"Label":"x"}`, status: 400, code: "invalid_request"},
		{name: "a field twice", method: "POST", path: collection, auth: root, body: `{"label":"x","label":"y"}`, status: 400, code: "invalid_request"},
		{name: "a wrong type", method: "POST", path: collection, auth: root, body: `{"label":1}`, status: 400, code: "invalid_request", says: "label"},
		{name: "bad UTF-8", method: "POST", path: collection, auth: root, body: "{\"label\":\"\xff\"}", status: 400, code: "invalid_request", says: "label"},
		{name: "a time that is a number", method: "POST", path: collection, auth: root, body: `{"label":"x","expires_at":1}`, status: 400, code: "invalid_request", says: "expires_at"},
		{name: "permissions that are text", method: "POST", path: collection, auth: root, body: `{"label":"x","permissions":"a:b"}`, status: 400, code: "invalid_request", says: "permissions"},
		{name: "permissions of numbers", method: "POST", path: collection, auth: root, body: `{"label":"x","permissions":[1]}`, status: 400, code: "invalid_request", says: "permissions"},
		{name: "is_system that is text", method: "POST", path: collection, auth: root, body: `{"label":"x","is_system":"true"}`, status: 400, code: "invalid_request", says: "is_system"},
		{name: "a permission in bad UTF-8", method: "POST", path: collection, auth: root, body: "{\"label\":\"x\",\"permissions\":[\"\xff\"]}", status: 400, code: "invalid_request", says: "permissions"},
		{name: "half a character", method: "POST", path: collection, auth: root, body: `{"label":"\ud800"}`, status: 422, code: "validation_failed", field: "label"},
		{name: "a time that is none", method: "POST", path: collection, auth: root, body: `{"label":"x","expires_at":"tomorrow"}`, status: 400, code: "invalid_request", says: "expires_at"},
		{name: "no label", method: "POST", path: collection, auth: root, body: `{}`, status: 422, code: "validation_failed", field: "label"},
		{name: "an empty label", method: "POST", path: collection, auth: root, body: label("  "), status: 422, code: "validation_failed", field: "label"},
		{name: "a label that is too long", method: "POST", path: collection, auth: root, body: label(strings.Repeat("é", 101)), status: 422, code: "validation_failed", field: "label"},
		{name: "a label with a line feed in it", method: "POST", path: collection, auth: root, body: label("a\nb"), status: 422, code: "validation_failed", field: "label"},
		{name: "a permission that is none", method: "POST", path: collection, auth: root, body: `{"label":"x","permissions":["bots:*"]}`, status: 422, code: "validation_failed", field: "permissions"},
		{name: "an expiry that is over", method: "POST", path: collection, auth: root, body: `{"label":"x","expires_at":"2020-01-01T00:00:00Z"}`, status: 422, code: "validation_failed", field: "expires_at"},
		{name: "an unknown parameter", path: collection + "?page=2", auth: root, status: 400, code: "invalid_request"},
		{name: "a parameter twice", path: collection + "?limit=1&limit=2", auth: root, status: 400, code: "invalid_request"},
		{name: "a page that is too large", path: collection + "?limit=101", auth: root, status: 422, code: "validation_failed", field: "limit"},
		{name: "an unknown order", path: collection + "?sort=hash", auth: root, status: 422, code: "validation_failed", field: "sort"},
		{name: "an order that only the page has", path: collection + "?sort=-permissions", auth: root, status: 422, code: "validation_failed", field: "sort"},
		{name: "a cursor that is none", path: collection + "?cursor=x", auth: root, status: 422, code: "validation_failed", field: "cursor"},
		{name: "a time that is none in the query", path: collection + "?unused_since=now", auth: root, status: 422, code: "validation_failed", field: "unused_since"},
	}
	for _, spelling := range []string{
		"/v1/admin/system-keys/", "/v1//admin/system-keys", "//v1/admin/system-keys", "/v1/admin/./system-keys", "/v1/x/../admin/system-keys",
		"/V1/Admin/System-Keys", "/v1/admin%2Fsystem-keys", "/v1/admin/system%2dkeys", "/v1/admin%252fsystem-keys", "/v1/admin\\system-keys",
		"/v1/admin/system-keys/x/y", "/v1/admin/system-keys//" + victim.ID.String(), "/%76%31/admin/system-keys",
	} {
		tests = append(tests, call{name: "the path " + spelling, path: spelling, auth: root, status: 404, code: "not_found"})
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.refused(t, address) })
	}
	if status, _, _ := get(t, "http://"+address+one, "Bearer "+root); status != http.StatusOK {
		t.Errorf("the key was lost on the way: %d", status)
	}
	if status, _, body := get(t, "http://"+address+"/v1/admin/system-keysmith", ""); status != http.StatusOK || body != "upstream" {
		t.Errorf("a path of somebody else was answered: %d %s", status, body)
	}
}

func (c call) refused(t *testing.T, address string) {
	t.Helper()
	status, header, body := c.send(t, address)
	var refusal struct {
		Error struct {
			Code, Message string
			Status        int
			RequestID     string `json:"request_id"`
			Fields        map[string]string
		}
	}
	if err := json.Unmarshal([]byte(body), &refusal); err != nil {
		t.Fatalf("%d %q: %v", status, body, err)
	}
	e := refusal.Error
	if status != c.status || e.Status != c.status || e.Code != c.code {
		t.Errorf("got %d %s", status, body)
	}
	if e.Message == "" || e.RequestID == "" || header.Get("Cache-Control") != "no-store" {
		t.Errorf("incomplete: %v %s", header, body)
	}
	if c.field != "" && e.Fields[c.field] == "" {
		t.Errorf("the field %s is not named in %s", c.field, body)
	}
	if !strings.Contains(e.Message, c.says) {
		t.Errorf("the message does not name %s: %s", c.says, body)
	}
	if (status == http.StatusMethodNotAllowed) != (header.Get("Allow") != "") {
		t.Errorf("Allow is %q", header.Get("Allow"))
	}
}

// send writes the path as it is spelled, which net/http's client would not.
func (c call) send(t *testing.T, address string) (int, http.Header, string) {
	t.Helper()
	method := c.method
	if method == "" {
		method = http.MethodGet
	}
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+address, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.URL.Opaque = c.path
	if path, query, ok := strings.Cut(c.path, "?"); ok {
		request.URL.Opaque, request.URL.RawQuery = path, query
	}
	if strings.HasPrefix(c.path, "//") {
		request.URL.Opaque = "http://" + address + c.path
	}
	if c.auth != "" {
		request.Header.Set("Authorization", "Bearer "+c.auth)
	}
	if c.body != "" {
		request.Body = io.NopCloser(strings.NewReader(c.body))
		request.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	maps.Copy(request.Header, c.header)
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(body)
}

// TestAdminAPIList walks the pages by their links.
func TestAdminAPIList(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			keys := b.keys(t)
			_, reader := mint(t, keys, "zz reader", admin.PermissionRead)
			for i := range 23 {
				mint(t, keys, fmt.Sprintf("Bot %02d", 22-i))
			}
			expires := time.Now().Add(time.Hour)
			if _, _, err := keys.Create(t.Context(), admin.CLI(), admin.NewKey{Label: "short-lived", ExpiresAt: expires}); err != nil {
				t.Fatal(err)
			}
			address := run(t, b, "system_keys_admin")
			var labels []string
			next := "/v1/admin/system-keys?sort=label&limit=10"
			for pages := 0; next != ""; pages++ {
				if pages == 3 {
					t.Fatal("more pages than there are keys")
				}
				status, _, body := get(t, "http://"+address+next, "Bearer "+reader)
				var page struct {
					Data  []admin.KeyJSON `json:"data"`
					Meta  struct{ Total int }
					Links struct {
						Self, Next, Collection struct{ Href string }
					} `json:"_links"`
				}
				if err := json.Unmarshal([]byte(body), &page); err != nil || status != http.StatusOK {
					t.Fatalf("%d %s: %v", status, body, err)
				}
				if page.Meta.Total != 25 || page.Links.Self.Href != next || page.Links.Collection.Href != "/v1/admin/system-keys" {
					t.Errorf("total %d, links %+v", page.Meta.Total, page.Links)
				}
				for _, k := range page.Data {
					labels = append(labels, k.Label)
				}
				next = page.Links.Next.Href
			}
			if len(labels) != 25 || labels[0] != "Bot 00" || labels[22] != "Bot 22" || labels[23] != "short-lived" || labels[24] != "zz reader" {
				t.Errorf("labels are %q", labels)
			}
			_, _, body := get(t, "http://"+address+"/v1/admin/system-keys?q=bOT+1&unused_since=2026-01-01T00:00:00Z", "Bearer "+reader)
			if strings.Count(body, `"label":"Bot 1`) != 10 || !strings.Contains(body, `"total":10`) {
				t.Errorf("a search found %s", body)
			}
		})
	}
}
