package admin_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// row is a call, and how it is refused.
type row struct {
	name, method, path string
	auth               func(*http.Request)
	body               string
	header             []string
	status             int
	code               string
	field              string // a member of error.fields
	says               string // a part of the message
}

func TestTheAPIRefuses(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	_, key := p.MintAdmin(t)
	root := plane.Bearer(key)
	reader := p.ByKey(t, false, admin.PermissionRead).Authorize
	creator := p.ByKey(t, false, admin.PermissionCreate, "bots:read").Authorize
	victim, _ := p.Mint(t, "victim")

	const collection = plane.KeysPath
	one := collection + "/" + victim.ID.String()

	label := func(s string) string { return fmt.Sprintf(`{"label":%q}`, s) }
	tests := []row{
		{name: "nobody", path: collection, status: 401, code: "unauthorized"},
		{name: "a key that was never minted", path: collection, auth: plane.Bearer("lm_sys_" + strings.Repeat("0", 76)), status: 401, code: "invalid_token"},
		{name: "a key in the query", path: collection + "?token=" + key, auth: root, status: 400, code: "invalid_request"},
		{name: "a list without the permission", path: collection, auth: creator, status: 403, code: "forbidden"},
		{name: "a key without the permission", path: one, auth: creator, status: 403, code: "forbidden"},
		{name: "a creation without the permission", method: "POST", path: collection, auth: reader, body: label("x"), status: 403, code: "forbidden"},
		{name: "a revocation without the permission", method: "DELETE", path: one, auth: reader, status: 403, code: "forbidden"},
		{name: "a permission that the creator does not hold", method: "POST", path: collection, auth: creator, body: `{"label":"x","permissions":["bots:read","bots:write"]}`, status: 403, code: "escalation"},
		{name: "a system admin by one who is none", method: "POST", path: collection, auth: creator, body: `{"label":"x","is_system":true}`, status: 403, code: "escalation"},
		{name: "a key that is not there", path: plane.NobodyPath, auth: root, status: 404, code: "not_found"},
		{name: "a revocation of a key that is not there", method: "DELETE", path: plane.NobodyPath, auth: root, status: 404, code: "not_found"},
		{name: "an id with an encoded digit", path: collection + "/%30" + victim.ID.String()[1:], auth: root, status: 404, code: "not_found"},
		{name: "no id at all", path: collection + "/x", auth: root, status: 404, code: "not_found"},
		{name: "an update", method: "PATCH", path: one, auth: root, body: label("x"), status: 405, code: "method_not_allowed"},
		{name: "a revocation of all keys", method: "DELETE", path: collection, auth: root, status: 400, code: "invalid_request", says: "at least one"},
		{name: "XML", path: collection, auth: root, header: []string{"Accept", "application/xml"}, status: 406, code: "not_acceptable"},
		{name: "a form", method: "POST", path: collection, auth: root, body: label("x"), header: []string{"Content-Type", "text/plain"}, status: 415, code: "unsupported_media_type"},
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
		{name: "another time that is none", path: collection + "?expiring_before=", auth: root, status: 422, code: "validation_failed", field: "expiring_before"},
		{name: "a word that is neither true nor false", path: collection + "?expired=1", auth: root, status: 422, code: "validation_failed", field: "expired"},
	}
	for _, spelling := range []string{
		"/v1/admin/system-keys/", "/v1//admin/system-keys", "//v1/admin/system-keys", "/v1/admin/./system-keys", "/v1/x/../admin/system-keys",
		"/V1/Admin/System-Keys", "/v1/admin%2Fsystem-keys", "/v1/admin/system%2dkeys", "/v1/admin%252fsystem-keys", "/v1/admin\\system-keys",
		"/v1/admin/system-keys/x/y", "/v1/admin/system-keys//" + victim.ID.String(), "/%76%31/admin/system-keys",
	} {
		tests = append(tests, row{name: "the path " + spelling, path: spelling, auth: root, status: 404, code: "not_found"})
	}
	for _, test := range tests {
		header := append([]string{"Content-Type", "application/json; charset=utf-8"}, test.header...)
		a := ask(t, p.As(test.auth), cmp.Or(test.method, http.MethodGet), test.path, test.body, test.status, test.code, header...)
		if refusal := refusalOf(t, a); test.field != "" && refusal.Fields[test.field] == "" || !strings.Contains(refusal.Message, test.says) {
			t.Errorf("%s: %q or %q is not named in %s", test.name, test.field, test.says, a.Body)
		}
	}
	if n := p.Total(t); n != 4 {
		t.Errorf("there are %d keys, not 4", n)
	}
	p.As(nil).Call(t, http.MethodGet, plane.KeysPath+"mith", "").Is(t, "a path of somebody else", http.StatusOK, "upstream")
}

// refusal is the body of an answer that refuses.
type refusal struct {
	Code, Message string
	Status        int
	RequestID     string `json:"request_id"`
	Fields        map[string]string
}

func refusalOf(t *testing.T, a plane.Reply) refusal {
	t.Helper()
	var body struct{ Error refusal }
	if err := json.Unmarshal([]byte(a.Body), &body); err != nil {
		t.Fatalf("%d %q: %v", a.Status, a.Body, err)
	}
	return body.Error
}

// ask makes a call, and checks the answer's status and, if there is a code, that it is a
// whole refusal.
func ask(t *testing.T, c *plane.Caller, method, path, body string, status int, code string, header ...string) plane.Reply {
	t.Helper()
	a := c.Call(t, method, path, body, header...)
	if a.Status != status {
		t.Errorf("%s %.100s %.100s: got %d %.300s, want %d", method, path, body, a.Status, a.Body, status)
		return a
	}
	if code == "" {
		return a
	}
	if r := refusalOf(t, a); r.Code != code || r.Status != status || r.Message == "" || r.RequestID == "" ||
		a.Header.Get("Cache-Control") != "no-store" || (status == http.StatusMethodNotAllowed) != (a.Header.Get("Allow") != "") {
		t.Errorf("%s %.100s %.100s: got %v %s, want %s", method, path, body, a.Header, a.Body, code)
	}
	return a
}

// TestTheListIsWalkedByItsLinks in each order, on each store.
func TestTheListIsWalkedByItsLinks(t *testing.T) {
	t.Parallel()
	for name, options := range plane.Stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := plane.New(t, options)
			reader := p.ByKey(t, false, admin.PermissionRead)
			made := []string{"caller"}
			for i := range 23 {
				made = append(made, fmt.Sprintf("Bot %02d", 22-i))
				p.Mint(t, made[i+1])
			}
			if _, _, err := p.Keys.Create(t.Context(), admin.CLI(), admin.NewKey{Label: "short-lived", ExpiresAt: time.Now().Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
			made = append(made, "short-lived")
			want := slices.Sorted(slices.Values(made))
			for _, sort := range []string{"label", "-label", "created_at", "-created_at", "last_used_at", "-last_used_at", "expires_at", "-expires_at"} {
				labels := walk(t, reader, plane.KeysPath+"?limit=10&sort="+sort)
				if strings.HasPrefix(sort, "-") {
					slices.Reverse(labels)
				}
				if strings.HasSuffix(sort, "label") && !slices.Equal(labels, want) || strings.HasSuffix(sort, "created_at") && !slices.Equal(labels, made) ||
					!slices.Equal(slices.Sorted(slices.Values(labels)), want) {
					t.Errorf("by %s: %q", sort, labels)
				}
			}
			found := reader.Call(t, http.MethodGet, plane.KeysPath+"?q=bOT+1&unused_since=2026-01-01T00:00:00Z", "").Body
			if strings.Count(found, `"label":"Bot 1`) != 10 || !strings.Contains(found, `"total":10`) {
				t.Errorf("a search found %s", found)
			}
			key := &store.Key{
				ID: store.ID(uuid.New()), Label: "ended", Hash: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA", Permissions: []string{},
				CreatedAt: time.Now().Add(-time.Hour).Truncate(time.Microsecond), CreatedBy: "cli", ExpiresAt: time.Now().Add(-time.Minute).Truncate(time.Microsecond),
			}
			if err := p.Keys.Store.CreateKey(t.Context(), key, nil); err != nil {
				t.Fatal(err)
			}
			in := func(d time.Duration) string { return url.QueryEscape(time.Now().Add(d).Format(time.RFC3339Nano)) }
			for query, want := range map[string]string{
				"?sort=expires_at&limit=1":                         `short-lived 25`,
				"?sort=expires_at&limit=1&expired=false":           `short-lived 25`,
				"?sort=expires_at&limit=2&expired=true":            `ended,short-lived 26`,
				"?expiring_before=" + in(2*time.Hour):              `short-lived 1`,
				"?expiring_before=" + in(time.Minute):              ` 0`,
				"?expired=true&expiring_before=" + in(2*time.Hour): `short-lived,ended 2`,
				"?expired=true&expiring_before=" + in(0):           `ended 1`,
				"?expired=true&q=ende&expiring_before=" + in(0):    `ended 1`,
				"?q=ende": ` 0`,
			} {
				var list plane.KeyList
				reader.Call(t, http.MethodGet, plane.KeysPath+query, "").Must(t, http.StatusOK, &list)
				var labels []string
				for _, key := range list.Data {
					labels = append(labels, key.Label)
				}
				if got := fmt.Sprintf("%s %d", strings.Join(labels, ","), list.Meta.Total); got != want {
					t.Errorf("%s: got %s, want %s", query, got, want)
				}
			}
			var answer struct {
				Data struct {
					AdminSystemKeys struct{ Data []struct{ Label string } }
				}
			}
			document := fmt.Sprintf(`{ adminSystemKeys(sort: "-expires_at", expired: true, expiringBefore: %q) { data { label } } }`, time.Now().Add(2*time.Hour).Format(time.RFC3339))
			reader.Call(t, http.MethodPost, admin.GraphQLPath, plane.GQL(document)).Must(t, http.StatusOK, &answer)
			if got := fmt.Sprint(answer.Data.AdminSystemKeys.Data); got != "[{short-lived} {ended}]" {
				t.Errorf("%s gives %s", document, got)
			}
		})
	}
}

// walk follows the links from the first of three pages, and returns the labels.
func walk(t *testing.T, c *plane.Caller, next string) (labels []string) {
	t.Helper()
	for pages := 0; next != ""; pages++ {
		if pages == 3 {
			t.Fatal("more pages than there are keys")
		}
		var list plane.KeyList
		c.Call(t, http.MethodGet, next, "").Must(t, http.StatusOK, &list)
		if list.Meta.Total != 25 || list.Links.Self.Href != next || list.Links.Collection.Href != plane.KeysPath {
			t.Errorf("total %d, links %+v", list.Meta.Total, list.Links)
		}
		for _, k := range list.Data {
			labels = append(labels, k.Label)
		}
		next = list.Links.Next.Href
	}
	return labels
}
