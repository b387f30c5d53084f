package admin_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestTheActivityOfAKeyIsShown by REST and by GraphQL, to those who may list keys.
func TestTheActivityOfAKeyIsShown(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	reader, stranger := p.ByKey(t, false, admin.PermissionRead), p.ByKey(t, false, admin.PermissionAudit)
	key, _ := p.Mint(t, "bot", "bots:read")
	path := plane.KeysPath + "/" + key.ID.String() + "/activity"
	at := time.Now().UTC().Truncate(24 * time.Hour)
	first := at.Add(time.Microsecond)
	err := p.Keys.Store.RecordUse(t.Context(), []store.Use{{
		ID: key.ID, At: first, Days: []store.DayUse{{Day: store.DayOf(at), Requests: 1 << 40, Denied: 2}},
		Networks: []store.NetworkUse{{Network: store.NetworkOf("192.0.2.1"), FirstAt: first, LastAt: first, Requests: 3}},
		Asked:    []store.AskedPermission{{Permission: "bots:read", LastAt: first}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	day, exact := at.Format(time.DateOnly), first.Format(time.RFC3339Nano)
	var got struct{ Data json.RawMessage }
	reader.Call(t, http.MethodGet, path, "").Must(t, http.StatusOK, &got)
	want := `{"first_used_at":"` + exact + `","last_used_at":"` + exact + `",` +
		`"days":[{"day":"` + day + `","requests":1099511627776,"denied":2}],` +
		`"networks":[{"network":"192.0.2.0/24","first_at":"` + exact + `","last_at":"` + exact + `","requests":3}],` +
		`"permissions":[{"permission":"bots:read","last_required_at":"` + exact + `"}]}`
	if diff := cmp.Diff(want, string(got.Data)); diff != "" {
		t.Error(diff)
	}
	stranger.Call(t, http.MethodGet, path, "").Must(t, http.StatusForbidden, nil)

	var byGraphQL struct {
		AdminSystemKeyActivity struct {
			FirstUsedAt, LastUsedAt string
			Days                    []struct {
				Day              string
				Requests, Denied int
			}
			Networks []struct {
				Network, FirstAt, LastAt string
				Requests                 int
			}
			Permissions []struct{ Permission, LastRequiredAt string }
		}
	}
	document := `query($id: ID!) { adminSystemKeyActivity(id: $id) { firstUsedAt lastUsedAt days { day requests denied }
		networks { network firstAt lastAt requests } permissions { permission lastRequiredAt } } }`
	if codes := reader.GraphQL(t, document, map[string]any{"id": key.ID.String()}, &byGraphQL); len(codes) > 0 {
		t.Fatal(codes)
	}
	a := byGraphQL.AdminSystemKeyActivity
	if a.FirstUsedAt != exact || a.Days[0].Day != day || a.Days[0].Requests != 1<<31-1 || a.Days[0].Denied != 2 ||
		a.Networks[0].Network != "192.0.2.0/24" || a.Permissions[0].Permission != "bots:read" || a.Permissions[0].LastRequiredAt != exact {
		t.Errorf("by GraphQL: %+v", a)
	}
	for id, want := range map[string]string{key.ID.String(): "forbidden", "nobody": "forbidden"} {
		if codes := stranger.GraphQL(t, document, map[string]any{"id": id}, nil); len(codes) != 1 || codes[0] != want && id != "nobody" {
			t.Errorf("%s: %v", id, codes)
		}
	}
	// A call needs a permission of the calling key, and that is noted too.
	asked := map[string]bool{}
	p.Keys.Asked = func(id store.ID, permission string, _ time.Time) { asked[id.String()+" "+permission] = true }
	reader.Call(t, http.MethodGet, path, "").Must(t, http.StatusOK, nil)
	if !asked[reader.ID+" "+admin.PermissionRead] || len(asked) != 1 {
		t.Errorf("asked: %v", asked)
	}
}
