package admin_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// grant is a set of permissions, and whether it is that of a system admin.
type grant struct {
	permissions []string
	isSystem    bool
}

func (g grant) String() string {
	s := strings.Join(g.permissions, "+")
	if g.isSystem {
		s += "(system)"
	}
	return "{" + s + "}"
}

// grants are all sets of a permission of the admin plane and two of others, with
// and without is_system.
func grants() []grant {
	universe := []string{admin.PermissionCreate, "a:read", "b:write"}
	var all []grant
	for bits := range 1 << (len(universe) + 1) {
		var g grant
		for i, p := range universe {
			if bits&(1<<i) != 0 {
				g.permissions = append(g.permissions, p)
			}
		}
		g.isSystem = bits&(1<<len(universe)) != 0
		all = append(all, g)
	}
	return all
}

// outcome is the rule, in words of its own: who holds nothing that lets them
// create is forbidden to; a system admin gives anything; anybody else gives at
// most what they have, and never the power of a system admin.
func outcome(holds, wants grant) string {
	has := map[string]bool{}
	for _, p := range holds.permissions {
		has[p] = true
	}
	switch {
	case holds.isSystem:
		return "created"
	case !has[admin.PermissionCreate]:
		return "forbidden"
	case wants.isSystem:
		return "escalation"
	}
	for _, p := range wants.permissions {
		if !has[p] {
			return "escalation"
		}
	}
	return "created"
}

// TestNobodyGrantsWhatTheyDoNotHold tries every pair of what a caller holds and
// what it asks for, by key and by token, over REST and GraphQL. Over which of both a
// key asks changes from pair to pair, and a token asks over the other (SOAK=1: each
// over both).
func TestNobodyGrantsWhatTheyDoNotHold(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	asked, seen := 0, map[string]int{}
	for h, holds := range grants() {
		for i, c := range []*plane.Caller{
			p.ByKey(t, holds.isSystem, holds.permissions...), p.ByToken(holds.isSystem, holds.permissions...),
		} {
			for j, wants := range grants() {
				want := outcome(holds, wants)
				for k, ask := range []func(*testing.T, *plane.Caller, grant) string{asks, asksByGraphQL} {
					if (h+i+j+k)%2 == 1 && os.Getenv("SOAK") == "" {
						continue
					}
					asked++
					seen[want]++
					if got := ask(t, c, wants); got != want {
						t.Errorf("%s with %s asks for %s (by GraphQL: %t): %s, want %s", c.Kind, holds, wants, k == 1, got, want)
					}
				}
			}
		}
	}
	// Bob, for whom another handler vouches, may create keys for bots:read.
	bob := p.ByName("bob")
	for want, wants := range map[string]grant{
		"created": {permissions: []string{"bots:read"}}, "escalation": {permissions: []string{"bots:read", "a:read"}},
	} {
		if got := asks(t, bob, wants); got != want {
			t.Errorf("bob asks for %s: %s, want %s", wants, got, want)
		}
	}
	if got := asks(t, bob, grant{isSystem: true}); got != "escalation" {
		t.Errorf("bob asks to make a system admin: %s", got)
	}
	t.Logf("%d questions: %v", asked, seen)
	// What was refused is on record, and nothing of it was made.
	page, err := p.Keys.AuditLog(t.Context(), admin.CLI(), &store.AuditQuery{Limit: 1, Event: store.AuditCreated})
	if err != nil {
		t.Fatal(err)
	}
	if want := seen["created"] + 1 + len(grants()); page.Total != want {
		t.Errorf("%d keys were made, want %d", page.Total, want)
	}
}

func asks(t *testing.T, c *plane.Caller, wants grant) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"label": "x", "permissions": wants.permissions, "is_system": wants.isSystem})
	if err != nil {
		t.Fatal(err)
	}
	a := c.Call(t, http.MethodPost, plane.KeysPath, string(body))
	if a.Status == http.StatusCreated {
		var created plane.OneKey
		a.Must(t, http.StatusCreated, &created)
		if strings.Join(created.Data.Permissions, "+") != sorted(wants.permissions) || created.Data.IsSystem != wants.isSystem {
			return fmt.Sprintf("created with %v, %v", created.Data.Permissions, created.Data.IsSystem)
		}
		return "created"
	}
	return refusalOf(t, a.Must(t, http.StatusForbidden, nil)).Code
}

func asksByGraphQL(t *testing.T, c *plane.Caller, wants grant) string {
	t.Helper()
	codes := c.GraphQL(t, `mutation($in: CreateSystemKeyInput!) { adminCreateSystemKey(input: $in) { id } }`,
		map[string]any{"in": map[string]any{"label": "x", "permissions": append([]string{}, wants.permissions...), "isSystem": wants.isSystem}}, nil)
	if len(codes) == 0 {
		return "created"
	}
	return strings.Join(codes, " ")
}

func sorted(permissions []string) string {
	clean, _ := store.CleanPermissions(permissions)
	return strings.Join(clean, "+")
}
