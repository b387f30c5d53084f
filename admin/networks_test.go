package admin_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/gate"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// TestNetworksAreGivenAtCreation and shown by every call that shows a key.
func TestNetworksAreGivenAtCreation(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	c := p.ByKey(t, true)
	want := []string{"192.0.2.0/24", "2001:db8::7/128"}
	var created, read plane.OneKey
	c.Call(t, http.MethodPost, plane.KeysPath, `{"label":"rest","networks":["2001:DB8::7","192.0.2.9/24","192.0.2.0/24"]}`).Must(t, http.StatusCreated, &created)
	c.Call(t, http.MethodGet, plane.KeysPath+"/"+created.Data.ID.String(), "").Must(t, http.StatusOK, &read)
	var made struct {
		AdminCreateSystemKey struct{ Networks []string }
	}
	c.GraphQL(t, `mutation { adminCreateSystemKey(input: {label: "graphql", networks: ["2001:db8::7", "192.0.2.0/24"]}) { networks } }`, nil, &made)
	for name, got := range map[string][]string{"created": created.Data.Networks, "read": read.Data.Networks, "GraphQL": made.AdminCreateSystemKey.Networks} {
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, open := range []string{`{"label":"open"}`, `{"label":"open","networks":null}`, `{"label":"open","networks":[]}`} {
		c.Call(t, http.MethodPost, plane.KeysPath, open).Must(t, http.StatusCreated, &created)
		if created.Data.Networks == nil || len(created.Data.Networks) != 0 {
			t.Errorf("%s: %v", open, created.Data.Networks)
		}
	}
	var list plane.KeyList
	c.Call(t, http.MethodGet, plane.KeysPath+"?sort=label", "").Must(t, http.StatusOK, &list)
	for _, key := range list.Data {
		if fenced := key.Label == "rest" || key.Label == "graphql"; fenced && !slices.Equal(key.Networks, want) || !fenced && len(key.Networks) > 0 {
			t.Errorf("the list has %s with %q", key.Label, key.Networks)
		}
	}
	page, err := p.Keys.AuditLog(t.Context(), admin.CLI(), &store.AuditQuery{Limit: 1, Label: "rest", Event: store.AuditCreated})
	if err != nil || len(page.Records) != 1 || !strings.Contains(string(page.Records[0].Details), `"networks":["192.0.2.0/24","2001:db8::7/128"]`) {
		t.Errorf("the audit log has %+v, %v", page, err)
	}
	many := `"10.0.0.0/24"`
	for i := range store.MaxNetworks {
		many += fmt.Sprintf(`,"10.1.%d.0/24"`, i)
	}
	for body, status := range map[string]int{
		`{"label":"x","networks":["office"]}`: http.StatusUnprocessableEntity, `{"label":"x","networks":[""]}`: http.StatusUnprocessableEntity,
		`{"label":"x","networks":["fe80::1%eth0"]}`: http.StatusUnprocessableEntity, `{"label":"x","networks":[` + many + `]}`: http.StatusUnprocessableEntity,
		`{"label":"x","networks":"10.0.0.0/8"}`: http.StatusBadRequest, `{"label":"x","networks":[1]}`: http.StatusBadRequest,
	} {
		a := c.Call(t, http.MethodPost, plane.KeysPath, body)
		if r := refusalOf(t, a); a.Status != status || status == http.StatusUnprocessableEntity && r.Fields["networks"] == "" || !strings.Contains(r.Message, "networks") {
			t.Errorf("%.60s: %d %s", body, a.Status, a.Body)
		}
	}
}

// TestAWriteIsFencedByTheRowOfItsTransaction has the acting key fenced after the request came
// in.
func TestAWriteIsFencedByTheRowOfItsTransaction(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	victim, _ := p.Mint(t, "victim")
	key, _, err := p.Keys.Create(t.Context(), admin.CLI(), admin.NewKey{Label: "fenced", IsSystem: true, Networks: []string{"192.0.2.0/24"}})
	if err != nil {
		t.Fatal(err)
	}
	actor := admin.Actor{Key: key.ID, Type: store.ActorKey, Name: key.ID.String(), IsSystem: true}
	for client, want := range map[string]error{"198.51.100.1": gate.OtherNetwork(), "": gate.OtherNetwork(), "192.0.2.1": nil} {
		actor.Request.ClientIP = client
		if _, _, err := p.Keys.Create(t.Context(), actor, admin.NewKey{Label: "x"}); !errors.Is(err, want) {
			t.Errorf("a creation from %q: %v", client, err)
		}
		if want == nil {
			continue
		}
		if _, err := p.Keys.Revoke(t.Context(), actor, victim.ID); !errors.Is(err, want) || !admin.Settled(err) {
			t.Errorf("a revocation from %q: %v", client, err)
		}
	}
	if n := p.Total(t); n != 3 {
		t.Errorf("there are %d keys, not 3", n)
	}
}
