package admin_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// TestIDsAreComparedAsValues names keys, records and actors by UUIDs in capitals
// (RFC 9562 section 4). Answers have them in small letters.
func TestIDsAreComparedAsValues(t *testing.T) {
	t.Parallel()
	for name, options := range plane.Stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := plane.New(t, options)
			c := p.ByKey(t, true)
			mint := func() (admin.KeyJSON, string) {
				t.Helper()
				var created plane.OneKey
				c.Call(t, http.MethodPost, plane.KeysPath, `{"label":"bot"}`).Must(t, http.StatusCreated, &created)
				return created.Data, strings.ToUpper(created.Data.ID.String())
			}
			bot, capitals := mint()
			self := plane.KeysPath + "/" + bot.ID.String()

			var shown plane.OneKey
			c.Call(t, http.MethodGet, plane.KeysPath+"/"+capitals, "").Must(t, http.StatusOK, &shown)
			if shown.Data.ID != bot.ID || shown.Links.Self.Href != self {
				t.Errorf("shown %+v", shown)
			}
			var revoked plane.OneRevoked
			c.Call(t, http.MethodDelete, plane.KeysPath+"/"+capitals, "").Must(t, http.StatusOK, &revoked)
			if revoked.Data.ID != bot.ID || revoked.Data.Label != "bot" || revoked.Links.Self.Href != self {
				t.Errorf("revoked %+v", revoked)
			}
			p.As(plane.Bearer(bot.Key)).Call(t, http.MethodGet, plane.KeysPath, "").Is(t, "the key", http.StatusUnauthorized, "invalid_token")

			for _, filter := range []string{"key_id=" + capitals, "key_id=" + capitals + "&actor=" + strings.ToUpper(c.ID)} {
				var log plane.AuditList
				c.Call(t, http.MethodGet, plane.AuditPath+"?limit=1&"+filter, "").Must(t, http.StatusOK, &log)
				if log.Meta.Total < 2 || len(log.Data) != 1 || log.Data[0].Key.ID != bot.ID {
					t.Fatalf("%s: %+v", filter, log)
				}
				newest := log.Data[0].ID
				c.Call(t, http.MethodGet, plane.AuditPath+"?limit=1&"+filter+"&cursor="+strings.ToUpper(newest.String()), "").Must(t, http.StatusOK, &log)
				if len(log.Data) != 1 || log.Data[0].ID == newest {
					t.Errorf("%s: behind the first record: %+v", filter, log)
				}
			}

			graph, capitals := mint()
			var byGraphQL struct {
				AdminDeleteSystemKey *struct{ ID string }
				AdminAuditLog        struct{ Total int }
			}
			codes := c.GraphQL(t, `mutation($id: ID!) { adminDeleteSystemKey(id: $id) { id } }`, map[string]any{"id": capitals}, &byGraphQL)
			if r := byGraphQL.AdminDeleteSystemKey; codes != nil || r == nil || r.ID != graph.ID.String() {
				t.Errorf("revoked %+v: %v", byGraphQL, codes)
			}
			codes = c.GraphQL(t, `query($id: ID!) { adminAuditLog(keyId: $id) { total } }`, map[string]any{"id": capitals}, &byGraphQL)
			if codes != nil || byGraphQL.AdminAuditLog.Total < 2 {
				t.Errorf("listed %+v: %v", byGraphQL, codes)
			}
		})
	}
}
