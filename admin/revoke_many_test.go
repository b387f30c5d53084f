package admin_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/admin"
	"github.com/lumio-vision/caddy-system-keys/internal/testenv/plane"
	"github.com/lumio-vision/caddy-system-keys/store"
)

// endMany asks by REST, and returns the answer and the labels in it, sorted.
func endMany(t *testing.T, c *plane.Caller, query string) (plane.ManyRevoked, []string) {
	t.Helper()
	var answer plane.ManyRevoked
	c.Call(t, http.MethodDelete, plane.KeysPath+"?"+query, "").Must(t, http.StatusOK, &answer)
	labels := []string{}
	for _, key := range answer.Data.Keys {
		labels = append(labels, key.Label)
	}
	if int(answer.Data.Total) != len(labels) {
		t.Errorf("total = %d of %d keys", answer.Data.Total, len(labels))
	}
	slices.Sort(labels)
	return answer, labels
}

// TestManyKeysAreRevokedAtOnce on each store, by each kind of system admin: what matches
// ends, with a record each, and what does not is kept.
func TestManyKeysAreRevokedAtOnce(t *testing.T) {
	t.Parallel()
	for name, options := range plane.Stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := plane.New(t, options)
			for _, c := range p.SystemAdmins(t) {
				kept, _ := p.Mint(t, "ci-kept", "bots:read")
				other, _ := p.Mint(t, "other", "bots:read")
				p.Mint(t, "ci-1", "bots:read")
				_, plain := p.Mint(t, "ci-2", "bots:read", "bots:write")
				query := "label_prefix=ci-&permission=bots:read&except=" + strings.ToUpper(kept.ID.String()) + "&except=" + other.ID.String()

				listed, labels := endMany(t, c, query+"&dry_run=true")
				if !slices.Equal(labels, []string{"ci-1", "ci-2"}) || listed.Data.OutcomeJSON != nil {
					t.Errorf("the %s may end %v: %+v", c.Kind, labels, listed.Data)
				}
				p.As(plane.Bearer(plain)).Call(t, http.MethodGet, plane.KeysPath, "").Is(t, "a key after a dry run", http.StatusForbidden, "forbidden")

				ended, labels := endMany(t, c, query+"&dry_run=false")
				if d := ended.Data; !slices.Equal(labels, []string{"ci-1", "ci-2"}) || d.OutcomeJSON == nil || d.RevokedAt.IsZero() ||
					d.Instances.Total != 1 || d.Instances.Acknowledged != 1 {
					t.Errorf("the %s has ended %v: %+v", c.Kind, labels, ended.Data)
				}
				p.As(plane.Bearer(plain)).Call(t, http.MethodGet, plane.KeysPath, "").Is(t, "a key that was ended", http.StatusUnauthorized, "invalid_token")
				for _, key := range ended.Data.Keys {
					page, err := p.Keys.AuditLog(t.Context(), admin.CLI(), &store.AuditQuery{Limit: 9, Key: key.ID, Event: store.AuditRevoked})
					if err != nil || len(page.Records) != 1 || page.Records[0].Actor.ID != c.ID || page.Records[0].Link.Seq == 0 ||
						page.Records[0].Request.Path != plane.KeysPath || !strings.Contains(string(page.Records[0].Details), "bots:read") {
						t.Errorf("the records are %+v, %v", page, err)
					}
				}
				again, labels := endMany(t, c, query)
				if len(labels) != 0 || again.Data.Keys == nil || again.Data.Instances.Acknowledged != 1 || again.Data.RevokedAt.IsZero() {
					t.Errorf("again: %+v", again.Data)
				}
				p.Revoke(t, kept)
				p.Revoke(t, other)
			}
		})
	}
}

// TestTheActingKeyIsKept whatever it asks for.
func TestTheActingKeyIsKept(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	c := p.ByKey(t, false, admin.PermissionDelete)
	p.ByKey(t, false, admin.PermissionDelete)
	query := "created_by=cli&label_prefix=caller&permission=" + admin.PermissionDelete
	for _, dryRun := range []string{"&dry_run=true", ""} {
		if answer, labels := endMany(t, c, query+dryRun); len(labels) != 1 || answer.Data.Keys[0].ID.String() == c.ID {
			t.Errorf("%q ends %+v", dryRun, answer.Data.Keys)
		}
	}
	if _, labels := endMany(t, c, query); len(labels) != 0 {
		t.Errorf("the acting key has ended %v", labels)
	}
	if n := p.Total(t); n != 1 {
		t.Errorf("%d keys are left, want the acting one", n)
	}
}

// TestWhatDoesNotSayWhichKeysEndsNone: none of these is a filter.
func TestWhatDoesNotSayWhichKeysEndsNone(t *testing.T) {
	t.Parallel()
	p := plane.New(t, plane.Options{})
	root := p.ByKey(t, true)
	victim, _ := p.Mint(t, "victim", "bots:read")
	id := victim.ID.String()
	for query, status := range map[string]int{
		"": 400, "dry_run=true": 400, "except=" + id: 400, "except=" + id + "&dry_run=false": 400,
		"created_by=": 400, "created_since=": 400, "label_prefix=": 400, "permission=": 400, "label_prefix=v&permission=": 400,
		"label_prefix=v&except=": 400, "label_prefix=v&dry_run=": 400, "label_prefix=v&label=v": 400, "q=v": 400, "label_prefix=v&limit=1": 400,
		"label_prefix=v&label_prefix=x": 400, "created_by=cli&created_by=sql": 400, "label_prefix=v&dry_run=true&dry_run=false": 400,
		"Label_Prefix=v": 400, "label_prefix=v;": 400, "label_prefix=%zz": 400,
		"label_prefix=v&dry_run=yes": 422, "label_prefix=v&except=x": 422, "created_since=yesterday": 422, "label_prefix=%00": 422, "permission=%ff": 422,
	} {
		code := map[int]string{400: "invalid_request", 422: "validation_failed"}[status]
		root.Call(t, http.MethodDelete, plane.KeysPath+"?"+query, "").Is(t, query, status, code)
	}
	for _, prefix := range []string{"%", "_ictim", "Victim", "*", "victim and more"} { // no wildcards, and the case matters
		if _, labels := endMany(t, root, "label_prefix="+url.QueryEscape(prefix)); len(labels) != 0 {
			t.Errorf("the prefix %q ends %v", prefix, labels)
		}
	}
	powerless := p.ByKey(t, false, admin.PermissionRead, "bots:read")
	for _, query := range []string{"label_prefix=v", "label_prefix=v&dry_run=true", "nonsense"} {
		powerless.Call(t, http.MethodDelete, plane.KeysPath+"?"+query, "").Is(t, query, http.StatusForbidden, "forbidden")
	}
	if n := p.Total(t); n != 3 {
		t.Errorf("%d keys are left, want 3", n)
	}
	since := victim.CreatedAt.Format(time.RFC3339Nano)
	if _, labels := endMany(t, root, "created_since="+since+"&created_by=cli&label_prefix=vic"); !slices.Equal(labels, []string{"victim"}) {
		t.Errorf("since its creation there is %v", labels)
	}
}
