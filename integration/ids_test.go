package integration_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestIDsAreComparedAsValues names keys, records and actors by UUIDs in capitals
// (RFC 9562 section 4). Answers have them in small letters.
func TestIDsAreComparedAsValues(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			p := newPlane(t, b, "")
			c := p.byKey(t, true)
			mint := func() (admin.KeyJSON, string) {
				t.Helper()
				var created oneKey
				c.call(t, http.MethodPost, keysPath, `{"label":"bot"}`).must(t, http.StatusCreated, &created)
				return created.Data, strings.ToUpper(created.Data.ID.String())
			}
			bot, capitals := mint()
			self := keysPath + "/" + bot.ID.String()

			var shown oneKey
			c.call(t, http.MethodGet, keysPath+"/"+capitals, "").must(t, http.StatusOK, &shown)
			if shown.Data.ID != bot.ID || shown.Links.Self.Href != self {
				t.Errorf("shown %+v", shown)
			}
			var revoked oneRevoked
			c.call(t, http.MethodDelete, keysPath+"/"+capitals, "").must(t, http.StatusOK, &revoked)
			if revoked.Data.ID != bot.ID || revoked.Data.Label != "bot" || revoked.Links.Self.Href != self {
				t.Errorf("revoked %+v", revoked)
			}
			other := &caller{plane: p, url: p.url, authorize: bearer(bot.Key)}
			other.call(t, http.MethodPost, "/work", "{}").must(t, http.StatusUnauthorized, nil)

			for _, filter := range []string{"key_id=" + capitals, "key_id=" + capitals + "&actor=" + strings.ToUpper(c.id)} {
				var log auditList
				c.call(t, http.MethodGet, auditPath+"?limit=1&"+filter, "").must(t, http.StatusOK, &log)
				if log.Meta.Total < 2 || len(log.Data) != 1 || log.Data[0].Key.ID != bot.ID {
					t.Fatalf("%s: %+v", filter, log)
				}
				newest := log.Data[0].ID
				c.call(t, http.MethodGet, auditPath+"?limit=1&"+filter+"&cursor="+strings.ToUpper(newest.String()), "").must(t, http.StatusOK, &log)
				if len(log.Data) != 1 || log.Data[0].ID == newest {
					t.Errorf("%s: behind the first record: %+v", filter, log)
				}
			}

			graph, capitals := mint()
			var byGraphQL struct {
				AdminDeleteSystemKey *struct{ ID string }
				AdminAuditLog        struct{ Total int }
			}
			codes := c.graphQL(t, `mutation($id: ID!) { adminDeleteSystemKey(id: $id) { id } }`, map[string]any{"id": capitals}, &byGraphQL)
			if r := byGraphQL.AdminDeleteSystemKey; codes != nil || r == nil || r.ID != graph.ID.String() {
				t.Errorf("revoked %+v: %v", byGraphQL, codes)
			}
			codes = c.graphQL(t, `query($id: ID!) { adminAuditLog(keyId: $id) { total } }`, map[string]any{"id": capitals}, &byGraphQL)
			if codes != nil || byGraphQL.AdminAuditLog.Total < 2 {
				t.Errorf("listed %+v: %v", byGraphQL, codes)
			}
		})
	}
}

// TestThePageTakesIDsInCapitals walks through the page by links in which the ids
// are in capitals, and revokes by them, once more too.
func TestThePageTakesIDsInCapitals(t *testing.T) {
	site := newPageSite(t, onSQLite(t), "")
	_, root := site.admin(t)
	v := visit(t, site.url)
	v.signIn(root)
	bot, plain := mint(t, site.keys, "Capital Bot", "bots:read")
	capitals := strings.ToUpper(bot.ID.String())
	v.get("/system?activity="+capitals).is(t, "the list", http.StatusOK, "Capital Bot")
	for range 2 {
		form := v.get("/system/keys/"+capitals+"/revoke").is(t, "the form", http.StatusOK, "Capital Bot")
		nonce := form.nonce(t, "/api/system-keys/"+bot.ID.String()+"/revoke")
		v.post("/api/system-keys/"+capitals+"/revoke", "nonce", nonce).is(t, "the answer", http.StatusOK, "Capital Bot")
	}
	other := visit(t, site.url)
	other.get("/v1/admin/system-keys", "Authorization", "Bearer "+plain).is(t, "the key", http.StatusUnauthorized, "invalid_token")
	nobody := store.NewAuditID(time.Now()).String()
	v.get("/system/keys/"+nobody+"/revoke").is(t, "a form for nobody", http.StatusNotFound, "")
}
