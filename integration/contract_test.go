package integration_test

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestTheAdminPlane is the whole of what an admin can do, by a caller of each
// kind, on each store, over real sockets. Every answer is compared with the
// description of the API on the way.
func TestTheAdminPlane(t *testing.T) {
	for _, b := range backends(t) {
		t.Run(b.name, func(t *testing.T) {
			p := newPlane(t, b, "audit_requests all\n")
			for _, caller := range p.SystemAdmins(t) {
				t.Run(caller.Kind, func(t *testing.T) {
					c := actor{caller, p}
					bot := c.creates(t)
					c.watches(t, bot)
					c.revokes(t, bot)
					c.readsTheLog(t, bot)
					c.doesItByGraphQL(t)
				})
			}
		})
	}
}

// actor is a system admin at a plane.
type actor struct {
	*plane.Caller
	at *plane.Plane
}

func (c actor) creates(t *testing.T) admin.KeyJSON {
	t.Helper()
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	var created plane.OneKey
	a := c.Call(t, http.MethodPost, plane.KeysPath, fmt.Sprintf(
		`{"label":"  Bot of %s ","permissions":["bots:write","bots:read","bots:read"],"expires_at":%q,"is_system":false}`,
		c.Kind, expires.Format(time.RFC3339))).Must(t, http.StatusCreated, &created)
	bot := created.Data
	if bot.Label != "Bot of "+c.Kind || !slices.Equal(bot.Permissions, []string{"bots:read", "bots:write"}) || bot.IsSystem ||
		bot.ExpiresAt == nil || !bot.ExpiresAt.Equal(expires) || bot.LastUsedAt != nil || *bot.CreatedBy != c.Creator ||
		!keyPattern.MatchString(bot.Key) {
		t.Fatalf("created %+v", bot)
	}
	if href := plane.KeysPath + "/" + bot.ID.String(); a.Header.Get("Location") != href || created.Links.Self.Href != href ||
		created.Links.Collection.Href != plane.KeysPath || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("Location %q, links %+v, %v", a.Header.Get("Location"), created.Links, a.Header)
	}
	var read plane.OneKey
	text := c.Call(t, http.MethodGet, plane.KeysPath+"/"+bot.ID.String(), "").Must(t, http.StatusOK, &read).Body
	if read.Data.ID != bot.ID || read.Data.Label != bot.Label || strings.Contains(text, "lm_sys_") || strings.Contains(text, "argon2") {
		t.Errorf("read %s", text)
	}
	return bot
}

// watches has the bot call through the proxy, and sees that it did.
func (c actor) watches(t *testing.T, bot admin.KeyJSON) {
	t.Helper()
	before := time.Now().Add(-time.Second)
	c.Call(t, http.MethodPost, plane.KeysPath, `{"label":"idle"}`).Must(t, http.StatusCreated, nil)
	upstream := c.at.As(plane.Bearer(bot.Key))
	upstream.Call(t, http.MethodPost, "/work/%C3%A9?secret=1", "{}").Must(t, http.StatusOK, nil)
	upstream.Call(t, http.MethodGet, "/privileged", "").Must(t, http.StatusForbidden, nil)
	unused := plane.KeysPath + "?limit=100&unused_since=" + url.QueryEscape(before.UTC().Format(time.RFC3339))
	var one plane.OneKey
	eventually(t, "the last use is written", func() bool {
		c.Call(t, http.MethodGet, plane.KeysPath+"/"+bot.ID.String(), "").Must(t, http.StatusOK, &one)
		return one.Data.LastUsedAt != nil
	})
	var list plane.KeyList
	c.Call(t, http.MethodGet, unused, "").Must(t, http.StatusOK, &list)
	if list.Meta.Total == 0 || slices.ContainsFunc(list.Data, func(k admin.KeyJSON) bool { return k.ID == bot.ID }) {
		t.Errorf("a key in use is among %d idle ones", list.Meta.Total)
	}
	c.Call(t, http.MethodGet, plane.KeysPath+"?sort=-last_used_at&q=bot", "").Must(t, http.StatusOK, &list)
	if list.Data[0].ID != bot.ID {
		t.Errorf("the newest use is that of %q", list.Data[0].Label)
	}
}

func (c actor) revokes(t *testing.T, bot admin.KeyJSON) {
	t.Helper()
	path := plane.KeysPath + "/" + bot.ID.String()
	var revoked plane.OneRevoked
	c.Call(t, http.MethodDelete, path, "").Must(t, http.StatusOK, &revoked)
	if r := revoked.Data; r.ID != bot.ID || r.Label != bot.Label || r.RevokedAt.IsZero() || r.Instances.Total != 1 ||
		r.Instances.Acknowledged != 1 || revoked.Links.Self.Href != path {
		t.Errorf("revoked %+v", revoked)
	}
	gone := c.at.As(plane.Bearer(bot.Key))
	gone.Call(t, http.MethodPost, "/work", "{}").Must(t, http.StatusUnauthorized, nil)
	gone.Call(t, http.MethodGet, plane.KeysPath, "").Must(t, http.StatusUnauthorized, nil)
	var again plane.OneRevoked
	c.Call(t, http.MethodDelete, path, "").Must(t, http.StatusOK, &again)
	if !reflect.DeepEqual(again, revoked) {
		t.Errorf("again it says %+v, and not %+v", again, revoked)
	}
	c.Call(t, http.MethodDelete, plane.KeysPath+"/"+store.NewAuditID(time.Now()).String(), "").Must(t, http.StatusNotFound, nil)
	c.Call(t, http.MethodGet, path, "").Must(t, http.StatusNotFound, nil)
}

// readsTheLog looks for everything that was done to the bot and by it.
func (c actor) readsTheLog(t *testing.T, bot admin.KeyJSON) {
	t.Helper()
	var log plane.AuditList
	eventually(t, "all is recorded", func() bool {
		c.Call(t, http.MethodGet, plane.AuditPath+"?key_id="+bot.ID.String(), "").Must(t, http.StatusOK, &log)
		return log.Meta.Total == 6 && len(log.Data) == 6 // the total is counted a moment later
	})
	var lines []string
	for _, r := range log.Data {
		if r.Key == nil || r.Key.ID != bot.ID || r.Key.Label == nil || *r.Key.Label != bot.Label || r.Request == nil || r.Request.ClientIP != "127.0.0.1" || r.Request.ID == "" {
			t.Errorf("record %+v of %+v by %+v", r, r.Key, r.Request)
			continue
		}
		actor := r.Actor.Type + " " + r.Actor.ID
		if r.Actor.ID == bot.ID.String() {
			actor = "itself"
		}
		lines = append(lines, fmt.Sprintf("%s by %s: %s %s %d %s", r.Event, actor, r.Request.Method, r.Request.Path, r.Request.Status, reason(string(r.Details))))
	}
	admin := c.Actor + " " + c.ID
	want := []string{
		"api_key.denied by itself: GET " + plane.KeysPath + " 401 revoked",
		"api_key.denied by itself: POST /work 401 revoked",
		"api_key.revoked by " + admin + ": DELETE " + plane.KeysPath + "/" + bot.ID.String() + " 200 ",
		"api_key.denied by itself: GET /privileged 403 insufficient_scope",
		"api_key.used by itself: POST /work/%C3%A9 200 ",
		"api_key.created by " + admin + ": POST " + plane.KeysPath + " 201 ",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("the log is\n%s\nand not\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	newest, since := log.Data[0].At, 0 // records of one moment may come in any order
	for _, r := range log.Data {
		if !r.At.Before(newest) {
			since++
		}
	}
	for filter, n := range map[string]int{
		"event=api_key.denied&key_id=" + bot.ID.String():                                                   3,
		"label=" + url.QueryEscape(strings.ToUpper(bot.Label)):                                             6,
		"event=api_key.created&label=" + url.QueryEscape(bot.Label) + "&actor=" + url.QueryEscape(c.ID):    1,
		"actor=" + bot.ID.String():                                                                         4,
		"key_id=" + bot.ID.String() + "&until=2020-01-01T00:00:00Z":                                        0,
		"key_id=" + bot.ID.String() + "&since=" + url.QueryEscape(newest.Format(time.RFC3339Nano)):         since,
		"key_id=" + bot.ID.String() + "&limit=1&until=" + url.QueryEscape(newest.Format(time.RFC3339Nano)): 6 - since,
	} {
		var some plane.AuditList
		c.Call(t, http.MethodGet, plane.AuditPath+"?"+filter, "").Must(t, http.StatusOK, &some)
		if some.Meta.Total != n {
			t.Errorf("%s keeps %d records, want %d", filter, some.Meta.Total, n)
		}
	}
	path, walked := plane.AuditPath+"?limit=4&key_id="+bot.ID.String(), 0
	for path != "" {
		var page plane.AuditList
		c.Call(t, http.MethodGet, path, "").Must(t, http.StatusOK, &page)
		walked += len(page.Data)
		path = page.Links.Next.Href
	}
	if walked != 6 {
		t.Errorf("the pages have %d records", walked)
	}
}

// reason takes the reason out of details.
func reason(details string) string {
	_, rest, found := strings.Cut(details, `"reason":"`)
	if !found {
		return ""
	}
	reason, _, _ := strings.Cut(rest, `"`)
	return reason
}

func (c actor) doesItByGraphQL(t *testing.T) {
	t.Helper()
	var created struct {
		AdminCreateSystemKey struct {
			ID, Label, Key string
			Permissions    []string
			IsSystem       bool
			CreatedBy      string
		}
	}
	label := "graph of " + c.Kind
	codes := c.GraphQL(t, `mutation M($in: CreateSystemKeyInput!) { adminCreateSystemKey(input: $in) { ...all } }
		fragment all on CreatedSystemKey { id label key permissions isSystem createdBy expiresAt }`,
		map[string]any{"in": map[string]any{"label": label, "permissions": []string{"bots:read"}, "expiresAt": time.Now().Add(time.Hour).Format(time.RFC3339)}}, &created)
	key := created.AdminCreateSystemKey
	if codes != nil || key.Label != label || !keyPattern.MatchString(key.Key) || key.CreatedBy != c.Creator || len(key.Permissions) != 1 {
		t.Fatalf("created %+v, %v", key, codes)
	}
	var list struct {
		AdminSystemKeys struct {
			Total int
			Next  *string
			Data  []struct{ ID, Label string }
		}
		AdminAuditLog struct {
			Total int
			Data  []struct {
				Event string
				Actor struct{ Type, ID string }
				Key   struct{ Label string }
			}
		}
	}
	codes = c.GraphQL(t, `query Q($q: String, $id: ID) {
		adminSystemKeys(q: $q, limit: 1, sort: "label") { total next data { id label lastUsedAt createdAt } }
		adminAuditLog(keyId: $id, event: "api_key.created") { total more data { event actor { type id label } key { label } request { path } details } }
	}`, map[string]any{"q": label, "id": key.ID}, &list)
	keys, log := list.AdminSystemKeys, list.AdminAuditLog
	if codes != nil || keys.Total != 1 || keys.Next != nil || keys.Data[0].ID != key.ID || log.Total != 1 ||
		log.Data[0].Actor.Type != c.Actor || log.Data[0].Actor.ID != c.ID || log.Data[0].Key.Label != label {
		t.Errorf("listed %+v, %v", list, codes)
	}
	var revoked struct {
		AdminDeleteSystemKey *struct {
			ID, Label string
			RevokedAt time.Time
			Instances struct{ Total, Acknowledged int }
		}
	}
	revoke := `mutation($id: ID!) { adminDeleteSystemKey(id: $id) { id label revokedAt requestsCut instances { total acknowledged expired } } }`
	codes = c.GraphQL(t, revoke, map[string]any{"id": key.ID}, &revoked)
	if r := revoked.AdminDeleteSystemKey; codes != nil || r == nil || r.Label != label || r.Instances.Acknowledged != 1 {
		t.Errorf("revoked %+v, %v", revoked, codes)
	}
	first := *revoked.AdminDeleteSystemKey
	codes = c.GraphQL(t, revoke, map[string]any{"id": key.ID}, &revoked)
	if r := revoked.AdminDeleteSystemKey; codes != nil || r == nil || *r != first {
		t.Errorf("revoked again %+v, and not %+v: %v", revoked, first, codes)
	}
	revoked.AdminDeleteSystemKey = nil
	unknown := map[string]any{"id": store.NewAuditID(time.Now()).String()}
	if codes := c.GraphQL(t, revoke, unknown, &revoked); !slices.Equal(codes, []string{"not_found"}) || revoked.AdminDeleteSystemKey != nil {
		t.Errorf("revoked what nobody knows: %v", codes)
	}
}
