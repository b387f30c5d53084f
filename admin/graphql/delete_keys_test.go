package graphql_test

import (
	"slices"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
)

// ended is the answer of adminDeleteSystemKeys.
type ended struct {
	AdminDeleteSystemKeys struct {
		Keys        []struct{ ID, Label string }
		Total       int
		RevokedAt   *string
		RequestsCut *int
		Instances   *struct{ Total, Acknowledged int }
	}
}

func TestManyKeysAreRevokedByGraphQL(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	root, reader := p.ByKey(t, true), p.ByKey(t, false, admin.PermissionRead)
	kept, _ := p.Mint(t, "ci-kept", "bots:read")
	p.Mint(t, "ci-1", "bots:read")
	const document = `mutation($except: [ID!], $by: String, $prefix: String, $dry: Boolean) {
		adminDeleteSystemKeys(createdBy: $by, labelPrefix: $prefix, permission: "bots:read", except: $except, dryRun: $dry) {
			keys { id label } total revokedAt requestsCut instances { total acknowledged }
		}
	}`
	variables := map[string]any{"except": []string{kept.ID.String()}, "by": "cli", "prefix": "ci-", "dry": true}
	if codes := reader.GraphQL(t, document, variables, nil); !slices.Equal(codes, []string{"forbidden"}) {
		t.Errorf("a reader's mutation: %v", codes)
	}
	for _, none := range []string{
		`mutation { adminDeleteSystemKeys { total } }`, `mutation { adminDeleteSystemKeys(createdBy: "") { total } }`,
		`mutation { adminDeleteSystemKeys(except: ["` + kept.ID.String() + `"]) { total } }`,
	} {
		if codes := root.GraphQL(t, none, nil, nil); !slices.Equal(codes, []string{"invalid_request"}) {
			t.Errorf("%s: %v", none, codes)
		}
	}
	var listed, revoked ended
	if codes := root.GraphQL(t, document, variables, &listed); len(codes) > 0 {
		t.Fatal(codes)
	}
	if a := listed.AdminDeleteSystemKeys; a.Total != 1 || a.Keys[0].Label != "ci-1" || a.RevokedAt != nil || a.RequestsCut != nil || a.Instances != nil {
		t.Errorf("a dry run: %+v", a)
	}
	variables["dry"] = false
	if codes := root.GraphQL(t, document, variables, &revoked); len(codes) > 0 {
		t.Fatal(codes)
	}
	if a := revoked.AdminDeleteSystemKeys; a.Total != 1 || a.Keys[0] != listed.AdminDeleteSystemKeys.Keys[0] || a.RevokedAt == nil ||
		a.RequestsCut == nil || a.Instances == nil || a.Instances.Acknowledged != 1 {
		t.Errorf("the revocation: %+v", a)
	}
	if n := p.Total(t); n != 3 {
		t.Errorf("%d keys are left, want 3", n)
	}
}
